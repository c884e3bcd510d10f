//! An AWS that answers what a test says, and remembers what it was asked.

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::{Arc, Mutex};

use reqwest::{Method, Request, Url};
use tokio::io::{AsyncBufReadExt, AsyncReadExt, AsyncWriteExt, BufReader};
use tokio::net::{TcpListener, TcpStream};

use crate::aws::{Credentials, sign};
use crate::context::Host;
use crate::testing::Bench;

/// The secret of every access key here.
pub(super) const SECRET: &str = "the-secret-of-all";

/// What was asked.
#[derive(Debug, Clone, Default)]
pub(super) struct Asked {
    pub(super) method: String,
    pub(super) target: String,
    pub(super) headers: BTreeMap<String, String>,
    pub(super) body: Vec<u8>,
}

impl Asked {
    pub(super) fn header(&self, name: &str) -> &str {
        self.headers.get(name).map_or("", String::as_str)
    }

    /// A parameter of the form.
    pub(super) fn form(&self, name: &str) -> String {
        let url = Url::parse(&format!("http://x/?{}", String::from_utf8_lossy(&self.body))).unwrap();
        url.query_pairs().find(|(n, _)| n == name).map(|(_, value)| value.into_owned()).unwrap_or_default()
    }

    /// The operation, or method and path where it has none.
    pub(super) fn action(&self) -> String {
        let form = self.form("Action");
        match self.header("x-amz-target").rsplit('.').next() {
            Some(operation) if !operation.is_empty() => operation.to_owned(),
            _ if !form.is_empty() => form,
            _ => format!("{} {}", self.method, self.target),
        }
    }

    /// The access key that it is signed with, and the scope; empty where it is not signed.
    pub(super) fn scope(&self) -> (String, String) {
        let said = self.header("authorization");
        let scope =
            said.split("Credential=").nth(1).and_then(|rest| rest.split(',').next()).unwrap_or_default();
        let (key, scope) = scope.split_once('/').unwrap_or_default();
        (key.to_owned(), scope.get(9..).unwrap_or_default().to_owned())
    }

    /// Whether the signature is the right one.
    fn check(&self, address: &str) {
        let (key, scope) = self.scope();
        if key.is_empty() {
            return;
        }
        let mut keys = Credentials::new(key, SECRET);
        keys.token = self.headers.get("x-amz-security-token").map(|token| token.as_str().into());
        let url = Url::parse(&format!("{address}{}", self.target)).unwrap();
        let mut again = Request::new(Method::from_bytes(self.method.as_bytes()).unwrap(), url);
        for (name, value) in
            self.headers.iter().filter(|(name, _)| *name == "content-type" || name.starts_with("x-amz-"))
        {
            again.headers_mut().insert(
                reqwest::header::HeaderName::from_bytes(name.as_bytes()).unwrap(),
                value.parse().unwrap(),
            );
        }
        let mut parts = scope.split('/');
        let (region, service) = (parts.next().unwrap(), parts.next().unwrap());
        let date = self.header("x-amz-date");
        let at = jiff::civil::DateTime::strptime("%Y%m%dT%H%M%SZ", date).unwrap();
        let at = at.to_zoned(jiff::tz::TimeZone::UTC).unwrap().timestamp();
        let digest = self.header("x-amz-content-sha256");
        assert!(digest == sign::UNSIGNED || digest == sign::digest(&self.body), "{digest}");
        sign::sign(&mut again, &keys, service, region, at, digest).unwrap();
        assert_eq!(again.headers()["authorization"], self.header("authorization"));
    }
}

/// What is answered: a status, headers as they are written, a text.
pub(super) type Reply = (u16, String, String);

pub(super) fn ok(text: impl Into<String>) -> Reply {
    (200, String::new(), text.into())
}

pub(super) fn status(status: u16, text: impl Into<String>) -> Reply {
    (status, String::new(), text.into())
}

/// The server.
pub(super) struct Aws {
    pub(super) address: String,
    seen: Arc<Mutex<Vec<Asked>>>,
}

impl Aws {
    /// Answers with what the function says of a request and of how many with the same action came before.
    pub(super) async fn new(answer: impl Fn(&Asked, usize) -> Reply + Send + Sync + 'static) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = format!("http://{}", listener.local_addr().unwrap());
        let seen: Arc<Mutex<Vec<Asked>>> = Arc::default();
        let (log, own, answer) = (seen.clone(), address.clone(), Arc::new(answer));
        tokio::spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                let (log, own, answer) = (log.clone(), own.clone(), answer.clone());
                tokio::spawn(async move { serve(stream, &own, &log, &*answer).await });
            }
        });
        Self { address, seen }
    }

    /// What was asked so far.
    pub(super) fn seen(&self) -> Vec<Asked> {
        self.seen.lock().unwrap().clone()
    }

    /// `KEY ACTION` of all of it.
    pub(super) fn calls(&self) -> Vec<String> {
        self.seen()
            .iter()
            .map(|asked| format!("{} {}", asked.scope().0, asked.action()).trim().to_owned())
            .collect()
    }

    /// A bench whose host lends the address and more variables.
    pub(super) fn bench(&self, variables: &[(&str, &str)]) -> Bench {
        let mut host = Host::new();
        host.env.insert("AWS_ENDPOINT_URL".into(), self.address.clone());
        host.env.insert("AWS_EC2_METADATA_DISABLED".into(), "true".into());
        host.env.insert("AWS_REGION".into(), "eu-west-1".into());
        // Nothing of whoever runs the test.
        host.env.insert("HOME".into(), "/nonexistent".into());
        for path in ["/bin", "/usr/bin"].iter().filter(|path| Path::new(path).exists()) {
            host.env.insert("PATH".into(), (*path).into());
        }
        for (name, value) in variables {
            host.env.insert((*name).into(), (*value).into());
        }
        Bench::with_host(host)
    }

    /// The same with keys.
    pub(super) fn bench_with_keys(&self) -> Bench {
        self.bench(&[("AWS_ACCESS_KEY_ID", "OWN"), ("AWS_SECRET_ACCESS_KEY", SECRET)])
    }
}

async fn serve(
    stream: TcpStream,
    address: &str,
    log: &Mutex<Vec<Asked>>,
    answer: &(dyn Fn(&Asked, usize) -> Reply + Send + Sync),
) {
    let mut stream = BufReader::new(stream);
    let mut line = String::new();
    stream.read_line(&mut line).await.unwrap();
    let mut words = line.split_whitespace().map(str::to_owned);
    let mut asked = Asked { method: words.next().unwrap_or_default(), ..Asked::default() };
    asked.target = words.next().unwrap_or_default();
    loop {
        let mut line = String::new();
        stream.read_line(&mut line).await.unwrap();
        let Some((name, value)) = line.trim_end().split_once(": ") else { break };
        asked.headers.insert(name.to_lowercase(), value.to_owned());
    }
    let length: usize = asked.header("content-length").parse().unwrap_or_default();
    asked.body = vec![0; length];
    stream.read_exact(&mut asked.body).await.unwrap();
    asked.check(address);
    let before = {
        let mut log = log.lock().unwrap();
        let before = log.iter().filter(|other| other.action() == asked.action()).count();
        log.push(asked.clone());
        before
    };
    let (status, headers, text) = answer(&asked, before);
    let length = text.len();
    let head =
        format!("HTTP/1.1 {status} X\r\ncontent-length: {length}\r\n{headers}connection: close\r\n\r\n");
    let _ = stream.write_all(format!("{head}{text}").as_bytes()).await;
    let _ = stream.shutdown().await;
}

/// The answer about a role: keys named after it.
pub(super) fn role(action: &str, asked: &Asked) -> Reply {
    let arn = asked.form("RoleArn");
    ok(format!(
        "<{action}Response><{action}Result><Credentials><AccessKeyId>KEY-{arn}</AccessKeyId>\
         <SecretAccessKey>{SECRET}</SecretAccessKey><SessionToken>token-of-{arn}</SessionToken>\
         <Expiration>2037-01-01T00:00:00Z</Expiration></Credentials></{action}Result></{action}Response>"
    ))
}

/// A document with keys, as containers and machines are given them.
pub(super) fn document(key: &str) -> Reply {
    ok(format!(
        r#"{{"Code":"Success","AccessKeyId":"{key}","SecretAccessKey":"{SECRET}","Token":"t-{key}","Expiration":"2037-01-01T00:00:00Z"}}"#
    ))
}
