//! The data source `http` against a server of a few lines.
#![cfg(feature = "http")]
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    reason = "tests stop at the first surprise"
)]

use std::sync::{Arc, Mutex};

use packer_builders::data_source::Http;
use packer_core::testing::{Bench, data_source};
use packer_core::{DataSource, Host, Value};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpListener;

/// Gives each connection the next of the answers; what was asked.
async fn serve(answers: Vec<String>) -> (String, Arc<Mutex<Vec<String>>>) {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap().to_string();
    let asked = Arc::new(Mutex::new(Vec::new()));
    let seen = asked.clone();
    tokio::spawn(async move {
        for answer in answers {
            let (mut connection, _) = listener.accept().await.unwrap();
            let mut request = vec![0; 64 * 1024];
            let length = connection.read(&mut request).await.unwrap();
            seen.lock().unwrap().push(String::from_utf8_lossy(&request[..length]).into_owned());
            connection.write_all(answer.as_bytes()).await.unwrap();
        }
    });
    (address, asked)
}

fn answer(status: &str, headers: &str, body: &str) -> String {
    format!("HTTP/1.1 {status}\r\nconnection: close\r\ncontent-length: {}\r\n{headers}\r\n{body}", body.len())
}

fn http(url: String) -> Http {
    let mut http = Http::default();
    http.url = url;
    http
}

fn text<'a>(value: &'a Value, name: &str) -> Option<&'a str> {
    value.get(name).and_then(Value::as_str)
}

#[tokio::test]
async fn gives_body_and_headers_of_the_answer() {
    let answers = vec![answer("200 OK", "content-type: text/plain\r\nx-a: 1\r\nx-a: 2\r\n", "bödy"); 2];
    let (address, asked) = serve(answers).await;
    let mut source = http(format!("http://{address}/x?q=1"));
    source.method = "POST".into();
    source.request_body = "question".into();
    source.request_headers = [("X-Token".to_owned(), "t".to_owned())].into();
    let value = data_source::suite(&source).await;
    assert_eq!(text(&value, "body"), Some("bödy"));
    assert_eq!(text(&value, "url"), Some(source.url.as_str()));
    let headers = value.get("request_headers").unwrap();
    assert_eq!((text(headers, "Content-Type"), text(headers, "X-A")), (Some("text/plain"), Some("1, 2")));
    let request = asked.lock().unwrap()[0].clone();
    assert!(request.starts_with("POST /x?q=1 HTTP/1.1\r\n"), "{request}");
    assert!(request.contains("x-token: t\r\n") && request.ends_with("\r\n\r\nquestion"), "{request}");
}

#[tokio::test]
async fn follows_redirects_but_no_failures() {
    let (target, _) = serve(vec![answer("200 OK", "", "there")]).await;
    let moved = answer("302 Found", &format!("location: http://{target}/new\r\n"), "");
    let (address, _) = serve(vec![moved, answer("404 Not Found", "", "no")]).await;
    let bench = Bench::new();
    let source = http(format!("http://{address}/"));
    let value = source.read(bench.context()).await.unwrap();
    assert_eq!(text(&value, "body"), Some("there"));
    let error = source.read(bench.context()).await.unwrap_err();
    assert_eq!(error.to_string(), "HTTP request error. Response code: 404");
}

#[tokio::test]
async fn says_why_nobody_answers() {
    let bench = Bench::new();
    let error = http("http://127.0.0.1:1/".into()).read(bench.context()).await.unwrap_err();
    assert_eq!(error.to_string(), "Get \"http://127.0.0.1:1/\": connection refused");
    assert!(error.is_retryable());
    let error = http("no url".into()).read(bench.context()).await.unwrap_err();
    assert!(!error.is_retryable(), "{error}");
}

#[tokio::test]
async fn goes_through_the_hosts_proxy() {
    let (proxy, asked) = serve(vec![answer("200 OK", "", "by proxy")]).await;
    let mut host = Host::new();
    host.env.insert("HTTP_PROXY".into(), proxy);
    let bench = Bench::with_host(host);
    let value = http("http://example.invalid/x".into()).read(bench.context()).await.unwrap();
    assert_eq!(text(&value, "body"), Some("by proxy"));
    assert!(asked.lock().unwrap()[0].starts_with("GET http://example.invalid/x HTTP/1.1\r\n"));
    // What is on this computer is asked directly.
    let (address, _) = serve(vec![answer("200 OK", "", "direct")]).await;
    let value = http(format!("http://{address}/")).read(bench.context()).await.unwrap();
    assert_eq!(text(&value, "body"), Some("direct"));
}
