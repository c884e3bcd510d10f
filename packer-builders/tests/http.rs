//! The data source `http` against a server of a few lines.
#![cfg(feature = "http")]
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    reason = "tests stop at the first surprise"
)]

use std::io::Write;
use std::sync::{Arc, Mutex};

use packer_builders::data_source::Http;
use packer_core::testing::{Bench, data_source};
use packer_core::{DataSource, Host, Value};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpListener;

/// Gives each connection the next of the answers; what was asked.
async fn serve<A: AsRef<[u8]> + Send + 'static>(answers: Vec<A>) -> (String, Arc<Mutex<Vec<String>>>) {
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
            // One that has seen enough does not listen to the end.
            let _ = connection.write_all(answer.as_ref()).await;
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

/// A text as `Content-Encoding: gzip` sends it.
fn zipped(text: &[u8]) -> Vec<u8> {
    let mut encoder = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::default());
    encoder.write_all(text).unwrap();
    let body = encoder.finish().unwrap();
    let head = answer("200 OK", "content-encoding: gzip\r\ncontent-type: text/plain\r\n", "");
    let head = head.replace("content-length: 0", &format!("content-length: {}", body.len()));
    [head.into_bytes(), body].concat()
}

#[tokio::test]
async fn what_was_compressed_on_the_way_is_a_text_again() {
    let (address, asked) =
        serve(vec![zipped(b"zipped"), zipped(b""), answer("200 OK", "", "plain").into()]).await;
    let bench = Bench::new();
    let source = http(format!("http://{address}/x"));
    let value = source.read(bench.context()).await.unwrap();
    assert_eq!(text(&value, "body"), Some("zipped"));
    let headers = value.get("request_headers").unwrap();
    assert_eq!(text(headers, "Content-Type"), Some("text/plain"));
    assert!(headers.get("Content-Encoding").is_none() && headers.get("Content-Length").is_none());
    assert!(asked.lock().unwrap()[0].contains("\r\naccept-encoding: gzip\r\n"), "{asked:?}");
    assert_eq!(text(&source.read(bench.context()).await.unwrap(), "body"), Some(""));
    assert_eq!(text(&source.read(bench.context()).await.unwrap(), "body"), Some("plain"));
}

#[tokio::test]
async fn what_the_template_asks_for_itself_is_left_as_it_came() {
    let (address, asked) = serve(vec![zipped(b"zipped")]).await;
    let mut source = http(format!("http://{address}/x"));
    source.request_headers = [("Accept-Encoding".to_owned(), "gzip;q=1".to_owned())].into();
    let value = source.read(Bench::new().context()).await.unwrap();
    assert!(text(&value, "body").unwrap().starts_with('\u{1f}'), "{value:?}");
    assert_eq!(text(value.get("request_headers").unwrap(), "Content-Encoding"), Some("gzip"));
    let asked = asked.lock().unwrap()[0].clone();
    assert!(asked.contains("accept-encoding: gzip;q=1\r\n") && !asked.contains(": gzip\r\n"), "{asked}");
}

#[tokio::test]
async fn a_bomb_is_too_long_and_what_is_cut_is_an_error() {
    let mut cut = zipped(b"a text that does not come to its end");
    cut.truncate(cut.len() - 4);
    let spoilt = answer("200 OK", "content-encoding: gzip\r\n", "not compressed").into_bytes();
    let (address, _) = serve(vec![zipped(&vec![b' '; 80 << 20]), spoilt, cut]).await;
    let bench = Bench::new();
    let source = http(format!("http://{address}/x"));
    let error = source.read(bench.context()).await.unwrap_err();
    assert_eq!(error.to_string(), format!("the answer of http://{address}/x is longer than 64 MiB"));
    let error = source.read(bench.context()).await.unwrap_err();
    assert!(error.to_string().contains("is not compressed as it says: "), "{error}");
    assert!(source.read(bench.context()).await.is_err());
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

/// A SOCKS proxy that leads wherever it is asked to go to one address; where it was asked to go.
async fn socks(target: String) -> (String, Arc<Mutex<Vec<String>>>) {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap().to_string();
    let asked = Arc::new(Mutex::new(Vec::new()));
    let seen = asked.clone();
    tokio::spawn(async move {
        while let Ok((mut client, _)) = listener.accept().await {
            // RFC 1928: methods, then CONNECT (1) to a name (3).
            let mut head = [0; 2];
            client.read_exact(&mut head).await.unwrap();
            let mut methods = vec![0; head[1].into()];
            client.read_exact(&mut methods).await.unwrap();
            client.write_all(&[5, 0]).await.unwrap();
            let mut request = [0; 5];
            client.read_exact(&mut request).await.unwrap();
            assert_eq!(request[..4], [5, 1, 0, 3], "a name is not looked up on this side");
            let mut name = vec![0; usize::from(request[4]) + 2];
            client.read_exact(&mut name).await.unwrap();
            let port = u16::from_be_bytes([name[name.len() - 2], name[name.len() - 1]]);
            let name = String::from_utf8_lossy(&name[..name.len() - 2]).into_owned();
            seen.lock().unwrap().push(format!("{name}:{port}"));
            client.write_all(&[5, 0, 0, 1, 0, 0, 0, 0, 0, 0]).await.unwrap();
            let mut server = tokio::net::TcpStream::connect(&target).await.unwrap();
            let _ = tokio::io::copy_bidirectional(&mut client, &mut server).await;
        }
    });
    (address, asked)
}

#[tokio::test]
async fn goes_through_a_socks_proxy() {
    for scheme in ["socks5", "socks5h"] {
        let (server, _) = serve(vec![answer("200 OK", "", "by socks")]).await;
        let (proxy, asked) = socks(server).await;
        let mut host = Host::new();
        host.env.insert("http_proxy".into(), format!("{scheme}://{proxy}"));
        // Programs in Go do not look at it.
        host.env.insert("ALL_PROXY".into(), "http://127.0.0.1:1".into());
        let bench = Bench::with_host(host);
        let value = http("http://example.invalid:81/x".into()).read(bench.context()).await.unwrap();
        assert_eq!(text(&value, "body"), Some("by socks"), "{scheme}");
        assert_eq!(*asked.lock().unwrap(), ["example.invalid:81"], "{scheme}");
    }
}
