//! Files in S3: what `amazon-import` and bundles put there and take away again.

use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};

use reqwest::header::{CONTENT_TYPE, ETAG, HeaderMap, HeaderName, HeaderValue, LAST_MODIFIED};
use reqwest::{Method, Url};

use super::call::{Answer, Call, Payload, Who, unreadable};
use super::service::domain;
use super::sign::escaped;
use super::{Service, ServiceError, Session, Xml};
use crate::context::{Context, Progress};
use crate::error::{Error, Result};

/// The longest file that is sent in one call. (Amazon's own limit is 5 GiB.)
const WHOLE: u64 = 64 << 20;

/// How many parts a file may have.
const MOST_PARTS: u64 = 10_000;

/// A file that is put into S3: where to, and how it is kept there.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct Upload {
    /// The bucket.
    pub bucket: String,
    /// The name in it.
    pub key: String,
    /// The file.
    pub file: PathBuf,
    /// More headers, which are signed where their names begin with `x-amz-`: `x-amz-server-side-encryption`.
    pub headers: Vec<(String, String)>,
}

impl Upload {
    /// A file for a bucket, under a name.
    pub fn new(file: impl Into<PathBuf>, bucket: impl Into<String>, key: impl Into<String>) -> Self {
        Self { bucket: bucket.into(), key: key.into(), file: file.into(), headers: Vec::new() }
    }

    /// One more header.
    #[must_use]
    pub fn header(mut self, name: impl Into<String>, value: impl Into<String>) -> Self {
        self.headers.push((name.into(), value.into()));
        self
    }
}

/// A call about a bucket.
struct Asked<'a> {
    action: &'static str,
    method: Method,
    bucket: &'a str,
    key: &'a str,
    query: &'a [(&'a str, &'a str)],
    headers: HeaderMap,
    payload: Payload,
}

impl<'a> Asked<'a> {
    fn new(action: &'static str, method: Method, bucket: &'a str, key: &'a str) -> Self {
        let (headers, payload) = (HeaderMap::new(), Payload::Text(String::new()));
        Self { action, method, bucket, key, query: &[], headers, payload }
    }
}

impl Session {
    /// Puts a file into S3. It is read while it is sent, and a long one goes in parts, each of which is sent again where that
    /// fails. What is there of a broken upload goes with [`s3_delete`](Self::s3_delete).
    ///
    /// # Errors
    /// Where the file cannot be read, or AWS does not take it.
    pub async fn s3_put(&self, cx: &Context, upload: &Upload) -> Result<()> {
        let file = &upload.file;
        let found = tokio::fs::metadata(file).await.map_err(|e| Error::io("open", file, e))?;
        let length = found.len();
        let shown = format!("Uploading {} to s3://{}/{}", name_of(file), upload.bucket, upload.key);
        let progress = Arc::new(Mutex::new(cx.progress(shown, Some(length))));
        let headers = headers(&upload.headers).map_err(Error::user)?;
        let work = async {
            if length <= WHOLE {
                let mut asked = Asked::new("PutObject", Method::PUT, &upload.bucket, &upload.key);
                asked.headers = headers;
                asked.payload = part(file, 0, length, progress);
                self.s3(asked).await.map(drop)
            } else {
                self.put_in_parts(upload, headers, length, progress).await
            }
        };
        cx.until_cancelled(Box::pin(async { work.await.map_err(Error::from) })).await
    }

    /// What tells the file of a name in S3 from those that were or will be there under it; `None` where there is none.
    ///
    /// # Errors
    /// Where AWS does not say.
    pub async fn s3_version(&self, bucket: &str, key: &str) -> Result<Option<String>, ServiceError> {
        match self.s3(Asked::new("HeadObject", Method::HEAD, bucket, key)).await {
            Ok(answer) => {
                let told = [ETAG, LAST_MODIFIED].map(|name| answer.headers.get(name).cloned());
                let told = told.iter().flatten().filter_map(|value| value.to_str().ok());
                Ok(Some(told.collect::<Vec<_>>().join(" ")))
            }
            Err(error) if error.status == Some(404) => Ok(None),
            Err(error) => Err(error),
        }
    }

    /// Takes a file out of S3, with what broken uploads left of it. That it is not there is no error.
    ///
    /// # Errors
    /// Where AWS refuses.
    pub async fn s3_delete(&self, bucket: &str, key: &str) -> Result<(), ServiceError> {
        self.s3_abandon(bucket, key).await?;
        match self.s3(Asked::new("DeleteObject", Method::DELETE, bucket, key)).await {
            Err(error) if error.status != Some(404) => Err(error),
            _ => Ok(()),
        }
    }

    /// Takes out what broken uploads left of a file.
    ///
    /// # Errors
    /// Where AWS refuses.
    pub async fn s3_abandon(&self, bucket: &str, key: &str) -> Result<(), ServiceError> {
        let mut asked = Asked::new("ListMultipartUploads", Method::GET, bucket, "");
        let query = [("uploads", ""), ("prefix", key)];
        asked.query = &query;
        // Whoever may not see them has made none.
        if let Ok(answer) = self.s3(asked).await
            && let Ok(list) = Xml::parse(&answer.body)
        {
            for upload in list.all("Upload").filter(|upload| upload.text_at("Key") == key) {
                self.abort(bucket, key, upload.text_at("UploadId")).await?;
            }
        }
        Ok(())
    }

    async fn put_in_parts(
        &self,
        upload: &Upload,
        headers: HeaderMap,
        length: u64,
        progress: Arc<Mutex<Progress>>,
    ) -> Result<(), ServiceError> {
        let (bucket, key) = (upload.bucket.as_str(), upload.key.as_str());
        let mut asked = Asked::new("CreateMultipartUpload", Method::POST, bucket, key);
        (asked.query, asked.headers) = (&[("uploads", "")], headers);
        let answer = self.s3(asked).await?;
        let begun =
            Xml::parse(&answer.body).map_err(|e| unreadable(Service::S3, "CreateMultipartUpload", &e))?;
        let id = begun.text_at("UploadId");
        let sent = Box::pin(self.send_parts(upload, id, length, progress)).await;
        if sent.is_err() {
            // What it says is worth less than what went wrong before.
            let _ = self.abort(bucket, key, id).await;
        }
        sent
    }

    async fn send_parts(
        &self,
        upload: &Upload,
        id: &str,
        length: u64,
        progress: Arc<Mutex<Progress>>,
    ) -> Result<(), ServiceError> {
        let (bucket, key) = (upload.bucket.as_str(), upload.key.as_str());
        let size = WHOLE.max(length.div_ceil(MOST_PARTS));
        let mut list = String::from("<CompleteMultipartUpload>");
        for number in 1..=length.div_ceil(size) {
            let (from, text) = ((number - 1) * size, number.to_string());
            let query = [("partNumber", text.as_str()), ("uploadId", id)];
            let mut asked = Asked::new("UploadPart", Method::PUT, bucket, key);
            asked.query = &query;
            asked.payload = part(&upload.file, from, size.min(length - from), progress.clone());
            let answer = self.s3(asked).await?;
            let tag = answer.headers.get(ETAG).and_then(|tag| tag.to_str().ok()).unwrap_or_default();
            let tag = tag.replace('&', "&amp;").replace('<', "&lt;");
            list.push_str(&format!("<Part><PartNumber>{number}</PartNumber><ETag>{tag}</ETag></Part>"));
        }
        list.push_str("</CompleteMultipartUpload>");
        let query = [("uploadId", id)];
        let mut asked = Asked::new("CompleteMultipartUpload", Method::POST, bucket, key);
        asked.query = &query;
        asked.headers.insert(CONTENT_TYPE, HeaderValue::from_static("application/xml"));
        asked.payload = Payload::Text(list);
        let answer = self.s3(asked).await?;
        // It may fail after it has begun to say that it succeeds.
        match Xml::parse(&answer.body) {
            Ok(said) if said.name != "Error" => Ok(()),
            Ok(said) => {
                let mut error = ServiceError::new(Service::S3.name, "CompleteMultipartUpload");
                error.status = Some(200);
                said.text_at("Code").clone_into(&mut error.code);
                said.text_at("Message").clone_into(&mut error.message);
                Err(error)
            }
            Err(e) => Err(unreadable(Service::S3, "CompleteMultipartUpload", &e)),
        }
    }

    async fn abort(&self, bucket: &str, key: &str, id: &str) -> Result<(), ServiceError> {
        let query = [("uploadId", id)];
        let mut asked = Asked::new("AbortMultipartUpload", Method::DELETE, bucket, key);
        asked.query = &query;
        match self.s3(asked).await {
            Err(error) if error.status != Some(404) => Err(error),
            _ => Ok(()),
        }
    }

    async fn s3(&self, asked: Asked<'_>) -> Result<Answer, ServiceError> {
        let own = self.endpoint(Service::S3);
        let host = if self.uses_fips() { "s3-fips" } else { "s3" };
        let host = format!("{host}.{}.{}", self.region(), domain(self.region()));
        let address = address(own.as_deref(), &host, &asked);
        let url = Url::parse(&address).map_err(|e| {
            let mut error = ServiceError::new(Service::S3.name, asked.action);
            error.message = format!("the address {address:?} is malformed: {e}");
            error
        })?;
        let call = Call {
            service: Service::S3,
            action: asked.action,
            region: self.region(),
            method: asked.method,
            url,
            headers: asked.headers,
            payload: asked.payload,
        };
        Box::pin(self.account.call(&call, Who::Account)).await
    }
}

/// Where an object is: at a name of the bucket's own, unless somebody else than Amazon has it or the bucket's name does not fit
/// into a certificate's.
fn address(own: Option<&str>, host: &str, asked: &Asked<'_>) -> String {
    let plain = |b: u8| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'-';
    let bucket = asked.bucket;
    let key = asked.key.split('/').map(escaped).collect::<Vec<_>>().join("/");
    let mut all = match own {
        Some(own) => format!("{}/{}/{key}", own.trim_end_matches('/'), escaped(bucket)),
        None if !bucket.is_empty() && bucket.bytes().all(plain) => {
            format!("https://{bucket}.{host}/{key}")
        }
        None => format!("https://{host}/{}/{key}", escaped(bucket)),
    };
    for (n, (name, value)) in asked.query.iter().enumerate() {
        all.push(if n == 0 { '?' } else { '&' });
        all.push_str(&format!("{}={}", escaped(name), escaped(value)));
    }
    all
}

/// A part of a file, whose sending is shown.
fn part(file: &Path, from: u64, length: u64, progress: Arc<Mutex<Progress>>) -> Payload {
    let sent = move |done| progress.lock().unwrap_or_else(PoisonError::into_inner).set(from + done);
    Payload::File { path: file.to_owned(), from, length, sent: Arc::new(sent) }
}

fn headers(all: &[(String, String)]) -> Result<HeaderMap, String> {
    let mut made = HeaderMap::new();
    for (name, value) in all {
        let wrong = |_| format!("{name}: {value:?} can be no header");
        let name = HeaderName::from_bytes(name.as_bytes()).map_err(|_| wrong(()))?;
        made.insert(name, HeaderValue::from_str(value).map_err(|_| wrong(()))?);
    }
    Ok(made)
}

fn name_of(file: &Path) -> std::borrow::Cow<'_, str> {
    file.file_name().unwrap_or_default().to_string_lossy()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn where_objects_are() {
        for (own, bucket, key, expected) in [
            (None, "my-bucket", "a/b c", "https://my-bucket.s3.eu-west-1.amazonaws.com/a/b%20c"),
            (None, "my.bucket", "k", "https://s3.eu-west-1.amazonaws.com/my.bucket/k"),
            (None, "evil/@x", "k", "https://s3.eu-west-1.amazonaws.com/evil%2F%40x/k"),
            (Some("http://127.0.0.1:9/"), "b", "k", "http://127.0.0.1:9/b/k"),
            (Some("http://127.0.0.1:9"), "b", "", "http://127.0.0.1:9/b/"),
        ] {
            let asked = Asked::new("GetObject", Method::GET, bucket, key);
            assert_eq!(address(own, "s3.eu-west-1.amazonaws.com", &asked), expected);
        }
    }
}
