//! Signatures of requests: AWS's version 4.

use std::fmt::Write;

use hmac::{Hmac, KeyInit, Mac};
use jiff::Timestamp;
use reqwest::Request;
use reqwest::header::{AUTHORIZATION, HOST, HeaderName, HeaderValue};
use sha2::{Digest, Sha256};

use super::Credentials;

/// What stands for the digest of a body that is not read beforehand.
pub(super) const UNSIGNED: &str = "UNSIGNED-PAYLOAD";

/// Adds time, digest, token and signature to the headers of a request. Its path is in the form that AWS signs: each part
/// [escaped](escaped) once.
pub(super) fn sign(
    request: &mut Request,
    credentials: &Credentials,
    service: &str,
    region: &str,
    at: Timestamp,
    digest: &str,
) -> Result<(), String> {
    let (time, day) = (at.strftime("%Y%m%dT%H%M%SZ").to_string(), at.strftime("%Y%m%d").to_string());
    let token = credentials.token.as_ref().map(|token| token.reveal());
    let named = [
        (HOST, Some(host(request))),
        (HeaderName::from_static("x-amz-date"), Some(time.clone())),
        (HeaderName::from_static("x-amz-content-sha256"), Some(digest.to_owned())),
        (HeaderName::from_static("x-amz-security-token"), token.map(str::to_owned)),
    ];
    for (name, value) in named {
        if let Some(value) = value {
            let value =
                HeaderValue::from_str(&value).map_err(|_| format!("the header {name} is malformed"))?;
            request.headers_mut().insert(name, value);
        }
    }
    let mut signed: Vec<(&str, String)> = Vec::new();
    for (name, value) in request.headers() {
        let name = name.as_str();
        if name == "host" || name == "content-type" || name.starts_with("x-amz-") {
            let value = value.to_str().map_err(|_| format!("the header {name} is malformed"))?;
            signed.push((name, value.split_whitespace().collect::<Vec<_>>().join(" ")));
        }
    }
    signed.sort_unstable();
    let names = signed.iter().map(|(name, _)| *name).collect::<Vec<_>>().join(";");
    let mut text = format!("{}\n{}\n{}\n", request.method(), request.url().path(), query(request));
    for (name, value) in &signed {
        let _ = writeln!(text, "{name}:{value}");
    }
    let _ = write!(text, "\n{names}\n{digest}");
    let scope = format!("{day}/{region}/{service}/aws4_request");
    let text = format!("AWS4-HMAC-SHA256\n{time}\n{scope}\n{}", hex(&Sha256::digest(text)));
    let mut key = format!("AWS4{}", credentials.secret_key.reveal()).into_bytes();
    for part in [day.as_str(), region, service, "aws4_request"] {
        key = mac(&key, part)?;
    }
    let signature = hex(&mac(&key, &text)?);
    let said = format!(
        "AWS4-HMAC-SHA256 Credential={}/{scope}, SignedHeaders={names}, Signature={signature}",
        credentials.access_key
    );
    let mut said = HeaderValue::from_str(&said).map_err(|_| "the access key is malformed".to_owned())?;
    said.set_sensitive(true);
    request.headers_mut().insert(AUTHORIZATION, said);
    Ok(())
}

/// The digest of a body, as it is signed.
pub(super) fn digest(body: &[u8]) -> String {
    hex(&Sha256::digest(body))
}

/// A part of a path, or a word of a query, with everything escaped but what never has to be.
pub(super) fn escaped(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    for byte in text.bytes() {
        match byte {
            b'A'..=b'Z' | b'a'..=b'z' | b'0'..=b'9' | b'-' | b'.' | b'_' | b'~' => out.push(char::from(byte)),
            _ => drop(write!(out, "%{byte:02X}")),
        }
    }
    out
}

fn host(request: &Request) -> String {
    let host = request.url().host_str().unwrap_or_default();
    request.url().port().map_or_else(|| host.to_owned(), |port| format!("{host}:{port}"))
}

fn query(request: &Request) -> String {
    let pairs = request.url().query_pairs().map(|(name, value)| (escaped(&name), escaped(&value)));
    let mut pairs: Vec<_> = pairs.collect();
    pairs.sort_unstable();
    pairs.iter().map(|(name, value)| format!("{name}={value}")).collect::<Vec<_>>().join("&")
}

fn mac(key: &[u8], text: &str) -> Result<Vec<u8>, String> {
    let mut mac = Hmac::<Sha256>::new_from_slice(key).map_err(|e| e.to_string())?;
    mac.update(text.as_bytes());
    Ok(mac.finalize().into_bytes().to_vec())
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().fold(String::with_capacity(bytes.len() * 2), |mut out, byte| {
        let _ = write!(out, "{byte:02x}");
        out
    })
}

#[cfg(test)]
mod tests {
    use reqwest::{Method, Url};

    use super::*;

    fn signature(request: &Request) -> String {
        let said = request.headers()[AUTHORIZATION].to_str().unwrap();
        said.rsplit_once('=').unwrap().1.to_owned()
    }

    /// The examples of Amazon's own documentation.
    #[test]
    fn signatures_are_those_that_amazon_shows() {
        let own = Credentials::new("AKIAIOSFODNN7EXAMPLE", "wJalrXUtnFEMI/K7MDENG/bPxRfiCYEXAMPLEKEY");
        let at: Timestamp = "2013-05-24T00:00:00Z".parse().unwrap();
        for (query, expected) in [
            ("lifecycle", "fea454ca298b7da1c68078a5d1bdbfbbe0d65c699e0f91ac7a200a0136783543"),
            ("prefix=J&max-keys=2", "34b48302e7b5fa45bde8084f4b7868a86f0a534bc59db6670ed5711ef69dc6f7"),
        ] {
            let url = format!("https://examplebucket.s3.amazonaws.com/?{query}");
            let mut request = Request::new(Method::GET, Url::parse(&url).unwrap());
            sign(&mut request, &own, "s3", "us-east-1", at, &digest(b"")).unwrap();
            assert_eq!(signature(&request), expected, "{query}");
        }
    }

    #[test]
    fn a_token_is_signed_too_and_ports_are_part_of_the_host() {
        let mut keys = Credentials::new("A", "B");
        keys.token = Some("T".into());
        let mut request = Request::new(Method::POST, Url::parse("http://127.0.0.1:5000/").unwrap());
        sign(&mut request, &keys, "sts", "us-east-1", Timestamp::UNIX_EPOCH, UNSIGNED).unwrap();
        assert_eq!(request.headers()[HOST], "127.0.0.1:5000");
        let said = request.headers()[AUTHORIZATION].to_str().unwrap();
        assert!(said.contains(";x-amz-security-token, "), "{said}");
        assert_eq!(escaped("a b/ü~"), "a%20b%2F%C3%BC~");
        keys.access_key = "A\nB".into();
        assert!(sign(&mut request, &keys, "sts", "r", Timestamp::UNIX_EPOCH, UNSIGNED).is_err());
    }
}
