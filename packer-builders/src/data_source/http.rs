//! The data source `http`: what a URL answers.

use std::collections::BTreeMap;

use packer_core::secrets::url_without_secrets;
use packer_core::{
    Context, DataSource, Diagnostic, Diagnostics, Error, PrepareContext, Result, Type, Value, async_trait,
};
use reqwest::header::{
    ACCEPT_ENCODING, CONTENT_ENCODING, CONTENT_LENGTH, HeaderMap, HeaderName, HeaderValue,
};
use reqwest::{Method, Response};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::web::{self, Broken};

const METHODS: [&str; 7] = ["HEAD", "GET", "POST", "PUT", "DELETE", "OPTIONS", "PATCH"];

/// The longest answer: it becomes a value of the template, so it has to be a small one.
const LONGEST_BODY: usize = 64 << 20;

/// Asks a URL and gives the answer: `url`, `body`, and `request_headers`, which has the headers of the *answer* (its name
/// is Packer's). Any status but 200 to 299 is an error; redirects are followed.
///
/// An answer may come compressed (`gzip`) and is decoded, unless `request_headers` has an `Accept-Encoding` of its own.
///
/// Proxies, of SOCKS too (`socks5://`), come from `HTTP_PROXY`, `HTTPS_PROXY` and `NO_PROXY` of what the host lends.
#[derive(Debug, Clone, Default, PartialEq, Deserialize, Serialize, JsonSchema)]
#[serde(default)]
#[non_exhaustive]
pub struct Http {
    /// What to ask. A password in it, and what its query calls a token and the like, are secrets.
    pub url: String,
    /// `HEAD`, `GET` (the default), `POST`, `PUT`, `DELETE`, `OPTIONS` or `PATCH`.
    pub method: String,
    /// Headers of the request. The value of one whose name says so (`Authorization`, `X-Api-Key`) is a secret.
    pub request_headers: BTreeMap<String, String>,
    /// The body of the request.
    pub request_body: String,
}

impl Http {
    fn method(&self) -> Result<Method> {
        let name = if self.method.is_empty() { "GET" } else { &self.method };
        match METHODS.contains(&name) {
            true => Method::from_bytes(name.as_bytes()).map_err(|e| Error::user(e.to_string())),
            false => {
                Err(Error::user(format!("the `method` \"{name}\" is not one of {}", METHODS.join(", "))))
            }
        }
    }

    fn headers(&self) -> Result<HeaderMap> {
        let mut headers = HeaderMap::new();
        for (name, value) in &self.request_headers {
            let wrong = |what: &str| Error::user(format!("request_headers: \"{name}\" {what}"));
            let value =
                HeaderValue::from_str(value).map_err(|_| wrong("has a value that no header can have"))?;
            let name =
                HeaderName::from_bytes(name.as_bytes()).map_err(|_| wrong("is not the name of a header"))?;
            headers.insert(name, value);
        }
        Ok(headers)
    }

    async fn ask(&self, cx: &Context) -> Result<Response> {
        let client = web::client(cx).and_then(|b| b.build()).map_err(|e| self.failure(&e))?;
        let (method, mut headers) = (self.method()?, self.headers()?);
        if self.takes_gzip() {
            headers.insert(ACCEPT_ENCODING, HeaderValue::from_static("gzip"));
        }
        let mut request = client.request(method, &self.url).headers(headers);
        if !self.request_body.is_empty() {
            request = request.body(self.request_body.clone());
        }
        request.send().await.map_err(|e| self.failure(&e))
    }

    /// Whether the answer may come compressed and is decoded: unless the configuration says itself what may come.
    fn takes_gzip(&self) -> bool {
        let given = |wanted: &str| self.request_headers.keys().any(|name| name.eq_ignore_ascii_case(wanted));
        self.method != "HEAD" && !given("accept-encoding") && !given("range")
    }

    /// The failure in words, down to what the system said.
    fn failure(&self, error: &reqwest::Error) -> Error {
        let method = if self.method.is_empty() { "GET" } else { &self.method };
        let reason = web::reason(error);
        let message = format!("{} \"{}\": {reason}", canonical(method), url_without_secrets(&self.url));
        if error.is_builder() { Error::user(message) } else { Error::network(message) }
    }
}

#[async_trait]
impl DataSource for Http {
    fn prepare(&self, _: &PrepareContext) -> Diagnostics {
        let mut found = Diagnostics::new();
        if self.url.is_empty() {
            found.push(Diagnostic::error("the `url` must be specified"));
        }
        for wrong in [self.method().err(), self.headers().err()].into_iter().flatten() {
            found.push(Diagnostic::error(wrong.message()));
        }
        found
    }

    fn output_type(&self) -> Type {
        Type::object([
            ("url", Type::String),
            ("body", Type::String),
            ("request_headers", Type::map(Type::String)),
        ])
    }

    async fn read(&self, cx: &Context) -> Result<Value> {
        cx.secrets().add_url(&self.url);
        for (name, value) in &self.request_headers {
            cx.secrets().add_named(name, value);
        }
        cx.until_cancelled(async {
            let mut response = self.ask(cx).await?;
            let status = response.status();
            if !status.is_success() {
                return Err(Error::user(format!("HTTP request error. Response code: {}", status.as_u16())));
            }
            let mut headers = response.headers().clone();
            if !self.takes_gzip() {
                response.headers_mut().remove(CONTENT_ENCODING);
            } else if headers
                .get(CONTENT_ENCODING)
                .is_some_and(|name| name.as_bytes().eq_ignore_ascii_case(b"gzip"))
            {
                // They are of what came, not of what becomes of it.
                headers.remove(CONTENT_ENCODING);
                headers.remove(CONTENT_LENGTH);
            }
            let headers = joined(&headers);
            let url = url_without_secrets(&self.url);
            let body = web::body(response, LONGEST_BODY).await.map_err(|broken| match broken {
                Broken::Off(e) => self.failure(&e),
                Broken::TooLong => {
                    let most = LONGEST_BODY >> 20;
                    Error::user(format!("the answer of {url} is longer than {most} MiB"))
                }
                Broken::Spoilt(why) => {
                    Error::provider(format!("the answer of {url} is not compressed as it says: {why}"))
                }
            })?;
            Ok(Value::object([
                ("url", Value::text(&self.url)),
                ("body", Value::text(&String::from_utf8_lossy(&body))),
                ("request_headers", Value::map(Type::String, headers)),
            ]))
        })
        .await
    }
}

/// Headers by name, written as templates expect them (`Content-Type`); of several with one name the values are joined.
fn joined(headers: &HeaderMap) -> BTreeMap<String, Value> {
    let values = |name: &HeaderName| {
        let all = headers.get_all(name).iter().map(|v| String::from_utf8_lossy(v.as_bytes()).into_owned());
        Value::text(&all.collect::<Vec<_>>().join(", "))
    };
    headers.keys().map(|name| (canonical(name.as_str()), values(name))).collect()
}

/// `content-type` as `Content-Type`.
fn canonical(name: &str) -> String {
    let mut first = true;
    let letter = |c: char| {
        let c = if first { c.to_ascii_uppercase() } else { c.to_ascii_lowercase() };
        first = c == '-';
        c
    };
    name.chars().map(letter).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_wrong_is_found_early() {
        let messages = |http: &Http| -> Vec<String> {
            http.prepare(&PrepareContext::default()).iter().map(|d| d.summary.clone()).collect()
        };
        assert_eq!(messages(&Http::default()), ["the `url` must be specified"]);
        let lower = Http { url: "http://x/".into(), method: "get".into(), ..Http::default() };
        assert_eq!(
            messages(&lower),
            ["the `method` \"get\" is not one of HEAD, GET, POST, PUT, DELETE, OPTIONS, PATCH"]
        );
        let headers = [("a b".to_owned(), "1".to_owned()), ("c".to_owned(), "\n".to_owned())];
        for pair in headers {
            let http = Http { url: "http://x/".into(), request_headers: [pair].into(), ..Http::default() };
            assert_eq!(messages(&http).len(), 1);
        }
    }

    #[test]
    fn header_names_have_the_usual_form() {
        assert_eq!(canonical("content-type"), "Content-Type");
        assert_eq!(canonical("ETag"), "Etag");
        assert_eq!(canonical("GET"), "Get");
    }
}
