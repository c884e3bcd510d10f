//! The functions of outside services: Consul itself, and servers that speak the HTTP API of Vault and of AWS Secrets
//! Manager.

#![cfg(all(
    feature = "functions-aws",
    feature = "functions-consul",
    feature = "functions-vault",
    feature = "testing"
))]
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    reason = "tests stop at the first surprise"
)]

use std::collections::BTreeMap;
use std::io::{BufRead, BufReader, Read, Write};
use std::net::{TcpListener, TcpStream};
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use hmac::{KeyInit, Mac};
use packer_core::language::functions::{Capabilities, NoFiles, RealFiles, Services};
use packer_core::services::RealServices;
use packer_core::template::{Inputs, Template};
use packer_core::testing::require;
use packer_core::{Host, Registry};
use sha2::Digest;
use tokio_util::sync::CancellationToken;

/// What the host lends: these variables, files, the services.
fn lent(env: &[(&str, &str)]) -> Capabilities {
    let mut cx = Capabilities::none();
    cx.env = Arc::new(env.iter().map(|(k, v)| ((*k).to_owned(), (*v).to_owned())).collect());
    cx.home = cx.env.get("HOME").map(Into::into);
    cx.files = Arc::new(RealFiles);
    cx.services = Arc::new(RealServices);
    cx
}

/// A request as the server saw it.
#[derive(Debug, Clone, Default)]
struct Seen {
    line: String,
    headers: BTreeMap<String, String>,
    body: String,
}

/// A server of HTTP that answers every request by itself.
struct Server {
    address: String,
    seen: Arc<Mutex<Vec<Seen>>>,
}

impl Server {
    fn answering(answer: impl Fn(&Seen) -> (u16, String) + Send + 'static) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap().to_string();
        let seen = Arc::new(Mutex::new(Vec::new()));
        let log = seen.clone();
        std::thread::spawn(move || {
            for stream in listener.incoming() {
                let mut stream = stream.unwrap();
                let Some(request) = read_request(&stream) else { continue };
                let (status, body) = answer(&request);
                log.lock().unwrap().push(request);
                let length = body.len();
                let text = format!(
                    "HTTP/1.1 {status} X\r\ncontent-length: {length}\r\nconnection: close\r\n\r\n{body}"
                );
                let _ = stream.write_all(text.as_bytes());
            }
        });
        Self { address, seen }
    }

    fn url(&self) -> String {
        format!("http://{}", self.address)
    }

    fn requests(&self) -> Vec<Seen> {
        self.seen.lock().unwrap().clone()
    }
}

fn read_request(stream: &TcpStream) -> Option<Seen> {
    let mut reader = BufReader::new(stream);
    let mut request = Seen::default();
    reader.read_line(&mut request.line).ok().filter(|read| *read > 0)?;
    loop {
        let mut line = String::new();
        reader.read_line(&mut line).ok()?;
        match line.trim_end().split_once(':') {
            Some((name, value)) => {
                request.headers.insert(name.to_lowercase(), value.trim().to_owned());
            }
            None => break,
        }
    }
    let length = request.headers.get("content-length").map_or(0, |l| l.parse().unwrap());
    let mut body = vec![0; length];
    reader.read_exact(&mut body).ok()?;
    request.body = String::from_utf8(body).unwrap();
    request.line = request.line.trim_end().trim_end_matches(" HTTP/1.1").to_owned();
    Some(request)
}

#[test]
fn vault_of_both_versions() {
    let server = Server::answering(|request| {
        let token = request.headers.get("x-vault-token").map(String::as_str);
        let answer = |status, body: &str| (status, body.to_owned());
        match (request.line.as_str(), token) {
            (_, Some("denied")) => answer(403, r#"{"errors":["permission denied"]}"#),
            ("GET /v1/secret/data/app", _) => answer(
                200,
                r#"{"request_id":"1","data":{"data":{"password":"hunter22","port":5432,"list":[1]},"metadata":{"version":3}}}"#,
            ),
            ("GET /v1/kv/app%20one", _) => {
                answer(200, r#"{"data":{"password":"of version 1","data":"a field of that name"}}"#)
            }
            ("GET /v1/secret/data/gone", _) => answer(
                404,
                r#"{"data":{"data":null,"metadata":{"deletion_time":"2024-01-01T00:00:00Z"}},"warnings":null}"#,
            ),
            ("GET /v1/secret/app", _) => answer(
                404,
                r#"{"errors":[],"warnings":["Invalid path for a versioned K/V secrets engine."]}"#,
            ),
            ("GET /v1/broken", _) => answer(500, "no JSON"),
            _ => answer(404, r#"{"errors":[]}"#),
        }
    });
    let url = server.url();
    let cx = lent(&[
        ("VAULT_ADDR", &url),
        ("VAULT_TOKEN", "s.tok"),
        ("VAULT_NAMESPACE", "team/a"),
        ("VAULT_MAX_RETRIES", "1"),
    ]);
    for (path, key, expected) in [
        ("secret/data/app", "password", Ok("hunter22")),
        ("/secret/data/app", "port", Ok("5432")),
        ("kv/app one", "password", Ok("of version 1")),
        ("kv/app one", "data", Ok("a field of that name")),
        ("secret/data/app", "nope", Err("the secret at \"secret/data/app\" of Vault has no field \"nope\"")),
        (
            "secret/data/app",
            "list",
            Err("the field \"list\" of the secret at \"secret/data/app\" of Vault is no text"),
        ),
        ("secret/data/gone", "k", Err("the secret at \"secret/data/gone\" of Vault is deleted")),
        ("nope", "k", Err("there is no secret at \"nope\" of Vault")),
        (
            "secret/app",
            "password",
            Err(
                "there is no secret at \"secret/app\" of Vault (Invalid path for a versioned K/V secrets engine.)",
            ),
        ),
        ("broken", "k", Err("reading \"broken\" of Vault: 500 Internal Server Error")),
        ("a/../b", "k", Err("the path \"v1/a/../b\" may not hold \"..\"")),
    ] {
        let found = cx.vault(path, key);
        assert_eq!(found.as_deref().map_err(String::as_str), expected);
    }
    let requests = server.requests();
    assert!(requests.iter().all(|r| r.headers["x-vault-namespace"] == "team/a"));
    let broken = requests.iter().filter(|r| r.line == "GET /v1/broken").count();
    assert_eq!(broken, 2, "another try where the server fails");
    assert_eq!(cx.secrets.scrub("a hunter22 s.tok"), "a <sensitive> <sensitive>");

    let denied = lent(&[("VAULT_ADDR", &url), ("VAULT_TOKEN", "denied")]);
    assert_eq!(
        denied.vault("secret/data/app", "k").unwrap_err(),
        "reading \"secret/data/app\" of Vault: 403 Forbidden: permission denied"
    );
    let without = lent(&[("VAULT_ADDR", &url)]).vault("secret/data/app", "k").unwrap_err();
    assert_eq!(without, "the variable VAULT_TOKEN must be set");
}

#[test]
fn a_server_that_is_not_there() {
    // Nobody listens there any more.
    let address = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().to_string();
    let url = format!("http://{address}");
    let cx = lent(&[("VAULT_ADDR", &url), ("VAULT_TOKEN", "t"), ("VAULT_MAX_RETRIES", "0")]);
    let said = cx.vault("a", "b").unwrap_err();
    assert_eq!(said, format!("reading \"a\" of Vault: {address}: connection refused"));
    for (variable, value, expected) in [
        ("VAULT_ADDR", "nonsense", "the address \"nonsense\" is malformed"),
        ("VAULT_SKIP_VERIFY", "maybe", "VAULT_SKIP_VERIFY must be true or false"),
        ("VAULT_CACERT", "/no/such", "/no/such cannot be read"),
        ("VAULT_CLIENT_TIMEOUT", "soon", "VAULT_CLIENT_TIMEOUT"),
        ("VAULT_MAX_RETRIES", "x", "VAULT_MAX_RETRIES"),
    ] {
        let said = lent(&[("VAULT_TOKEN", "t"), (variable, value)]).vault("a", "b").unwrap_err();
        assert!(said.contains(expected), "{said}");
    }
}

#[test]
fn cancellation_ends_the_waiting() {
    // Takes connections and never answers.
    let silent = TcpListener::bind("127.0.0.1:0").unwrap();
    let url = format!("http://{}", silent.local_addr().unwrap());
    let mut cx = lent(&[("VAULT_ADDR", &url), ("VAULT_TOKEN", "t")]);
    cx.cancel = CancellationToken::new();
    let (token, since) = (cx.cancel.clone(), Instant::now());
    std::thread::spawn(move || {
        std::thread::sleep(Duration::from_millis(300));
        token.cancel();
    });
    assert_eq!(cx.vault("a", "b").unwrap_err(), "cancelled");
    assert!(since.elapsed() < Duration::from_secs(10));
}

/// A Consul agent, ended with the test.
struct Consul {
    child: Child,
    address: String,
    _folder: tempfile::TempDir,
}

impl Consul {
    fn start(program: &Path) -> Self {
        let folder = tempfile::tempdir().unwrap();
        // Held at the same time, so that they differ.
        let held: Vec<TcpListener> = (0..4).map(|_| TcpListener::bind("127.0.0.1:0").unwrap()).collect();
        let ports: Vec<String> = held.iter().map(|l| l.local_addr().unwrap().port().to_string()).collect();
        drop(held);
        let child = Command::new(program)
            .args([
                "agent",
                "-dev",
                "-bind",
                "127.0.0.1",
                "-client",
                "127.0.0.1",
                "-dns-port",
                "-1",
                "-grpc-port",
                "-1",
            ])
            .args(["-http-port", &ports[0], "-server-port", &ports[1]])
            .args(["-serf-lan-port", &ports[2], "-serf-wan-port", &ports[3]])
            .env("HOME", folder.path())
            .current_dir(folder.path())
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .unwrap();
        let consul = Self { child, address: format!("127.0.0.1:{}", ports[0]), _folder: folder };
        let end = Instant::now() + Duration::from_secs(30);
        while consul.request("GET", "/v1/status/leader", "").is_none_or(|answer| !answer.contains(":")) {
            assert!(Instant::now() < end, "consul does not start");
            std::thread::sleep(Duration::from_millis(100));
        }
        consul
    }

    /// The body of a good answer.
    fn request(&self, method: &str, path: &str, body: &str) -> Option<String> {
        let mut stream = TcpStream::connect(&self.address).ok()?;
        let (address, length) = (&self.address, body.len());
        let text =
            format!("{method} {path} HTTP/1.0\r\nhost: {address}\r\ncontent-length: {length}\r\n\r\n{body}");
        stream.write_all(text.as_bytes()).ok()?;
        let mut answer = String::new();
        stream.read_to_string(&mut answer).ok()?;
        let (head, body) = answer.split_once("\r\n\r\n")?;
        head.contains(" 200 ").then(|| body.to_owned())
    }
}

impl Drop for Consul {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

#[test]
fn values_of_a_real_consul() {
    let Some(program) = require("consul") else { return };
    let consul = Consul::start(&program);
    for (key, value) in [("app/image", "debian 12\n"), ("empty", ""), ("with%20space", "größe")] {
        assert_eq!(consul.request("PUT", &format!("/v1/kv/{key}"), value).as_deref(), Some("true\n"));
    }
    let cx = lent(&[("CONSUL_HTTP_ADDR", &consul.address)]);
    for (key, expected) in [
        ("app/image", Ok("debian 12\n")),
        ("/app/image", Ok("debian 12\n")),
        ("with space", Ok("größe")),
        ("empty", Err("the value of the Consul key \"empty\" is empty")),
        ("app/nope", Err("there is no Consul key \"app/nope\"")),
    ] {
        let found = cx.consul_key(key);
        assert_eq!(found.as_deref().map_err(String::as_str), expected);
    }
    let url = format!("http://{}", consul.address);
    assert!(lent(&[("CONSUL_HTTP_ADDR", &url)]).consul_key("app/image").is_ok());
    let tls = lent(&[("CONSUL_HTTP_ADDR", &consul.address), ("CONSUL_HTTP_SSL", "true")]);
    assert!(tls.consul_key("app/image").is_err());

    // From a template, inside of an async runtime of one thread.
    let text = "locals { image = trimspace(consul_key(\"app/image\")) }\n\
                variable \"v\" { default = \"x\" }\n";
    let template = Template::from_texts([("t.pkr.hcl", text)]).unwrap();
    let mut host = Host::new();
    host.env.insert("CONSUL_HTTP_ADDR".into(), consul.address.clone());
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    let console = runtime.block_on(template.console(&Registry::new(), Inputs::new().host(host))).unwrap();
    assert_eq!(console.answer("local.image").unwrap(), "debian 12");
}

#[test]
fn what_consul_is_asked_with() {
    let server = Server::answering(|request| match request.headers.get("x-consul-token") {
        Some(token) if token == "from-a-file" => (200, "value".to_owned()),
        _ => (403, "Permission denied".to_owned()),
    });
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("token");
    std::fs::write(&file, "from-a-file\n").unwrap();
    let env = [
        ("CONSUL_HTTP_ADDR", server.address.as_str()),
        ("CONSUL_HTTP_TOKEN_FILE", file.to_str().unwrap()),
        ("CONSUL_HTTP_AUTH", "me:pass word"),
        ("CONSUL_NAMESPACE", "team a"),
    ];
    let cx = lent(&env);
    assert_eq!(cx.consul_key("k").unwrap(), "value");
    let request = server.requests().remove(0);
    assert_eq!(request.line, "GET /v1/kv/k?raw=&ns=team+a");
    assert_eq!(request.headers["authorization"], "Basic bWU6cGFzcyB3b3Jk");
    assert_eq!(cx.secrets.scrub("from-a-file, pass word"), "<sensitive>, <sensitive>");
    let said = lent(&env[..1]).consul_key("k").unwrap_err();
    assert_eq!(said, "reading the Consul key \"k\": 403 Forbidden: Permission denied");
}

/// The signature that AWS would compute, from what the request says it covers.
fn signature(request: &Seen, secret: &str) -> String {
    let hex = |bytes: &[u8]| bytes.iter().map(|b| format!("{b:02x}")).collect::<String>();
    let sign = |key: &[u8], text: &str| {
        let mut mac = hmac::Hmac::<sha2::Sha256>::new_from_slice(key).unwrap();
        mac.update(text.as_bytes());
        mac.finalize().into_bytes().to_vec()
    };
    let authorization = &request.headers["authorization"];
    let part = |name: &str| {
        authorization
            .split(name)
            .nth(1)
            .unwrap()
            .split(',')
            .next()
            .unwrap()
            .trim_start_matches('=')
            .to_owned()
    };
    let (signed, credential) = (part("SignedHeaders"), part("Credential"));
    let scope = credential.split_once('/').unwrap().1;
    let headers: String =
        signed.split(';').map(|name| format!("{name}:{}\n", request.headers[name])).collect();
    let body = hex(&sha2::Sha256::digest(&request.body));
    let canonical = format!("POST\n/\n\n{headers}\n{signed}\n{body}");
    let date = &request.headers["x-amz-date"];
    let text = format!("AWS4-HMAC-SHA256\n{date}\n{scope}\n{}", hex(&sha2::Sha256::digest(canonical)));
    let start = format!("AWS4{secret}").into_bytes();
    let key = scope.split('/').fold(start, |key, part| sign(&key, part));
    hex(&sign(&key, &text))
}

/// A Secrets Manager that knows the secret key of its users.
fn secrets_manager(secret_key: &'static str) -> Server {
    Server::answering(move |request| {
        let authorization = request.headers.get("authorization").cloned().unwrap_or_default();
        if !authorization.ends_with(&format!("Signature={}", signature(request, secret_key))) {
            let said = r#"{"__type":"com.amazon.coral.service#InvalidSignatureException","message":"it does not match"}"#;
            return (400, said.to_owned());
        }
        let target = request.headers["x-amz-target"].as_str();
        assert_eq!((request.line.as_str(), target), ("POST /", "secretsmanager.GetSecretValue"));
        let asked: serde_json::Value = serde_json::from_str(&request.body).unwrap();
        match asked["SecretId"].as_str().unwrap() {
            "plain" => (200, r#"{"Name":"plain","SecretString":"just text"}"#.to_owned()),
            "json" | "arn:aws:secretsmanager:eu-west-1:1:secret:json" => {
                (200, r#"{"SecretString":"{\"user\":\"admin\",\"port\":5432}"}"#.to_owned())
            }
            "binary" => (200, r#"{"SecretBinary":"AAE="}"#.to_owned()),
            "flaky" => (503, String::new()),
            _ => (
                400,
                r#"{"__type":"ResourceNotFoundException","Message":"Secrets Manager can't find it."}"#
                    .to_owned(),
            ),
        }
    })
}

#[test]
fn secrets_of_aws() {
    let server = secrets_manager("the/secret+key");
    let url = server.url();
    let cx = lent(&[
        ("AWS_ENDPOINT_URL", &url),
        ("AWS_REGION", "eu-central-1"),
        ("AWS_ACCESS_KEY_ID", "AKIDEXAMPLE"),
        ("AWS_SECRET_ACCESS_KEY", "the/secret+key"),
        ("AWS_SESSION_TOKEN", "a session"),
    ]);
    for (name, key, expected) in [
        ("plain", None, Ok("just text")),
        ("json", Some("user"), Ok("admin")),
        ("json", Some("port"), Ok("5432")),
        ("json", None, Err("the secret \"json\" has 2 entries: say which key is meant")),
        ("binary", None, Err("the secret \"binary\" of AWS is no text")),
        (
            "nope",
            None,
            Err(
                "reading the secret \"nope\" of AWS: ResourceNotFoundException: Secrets Manager can't find it.",
            ),
        ),
        ("flaky", None, Err("reading the secret \"flaky\" of AWS: 503 Service Unavailable")),
    ] {
        let found = cx.aws_secretsmanager(name, key);
        assert_eq!(found.as_deref().map_err(String::as_str), expected);
    }
    assert_eq!(cx.aws_secretsmanager_raw("json").unwrap(), r#"{"user":"admin","port":5432}"#);
    let requests = server.requests();
    assert_eq!(requests.iter().filter(|r| r.body.contains("flaky")).count(), 3);
    assert!(requests.iter().all(|r| r.headers["x-amz-security-token"] == "a session"));
    assert!(requests[0].headers["authorization"].contains("/eu-central-1/secretsmanager/aws4_request"));

    let wrong = lent(&[
        ("AWS_ENDPOINT_URL_SECRETS_MANAGER", &url),
        ("AWS_REGION", "eu-central-1"),
        ("AWS_ACCESS_KEY_ID", "AKIDEXAMPLE"),
        ("AWS_SECRET_ACCESS_KEY", "another"),
    ]);
    let said = wrong.aws_secretsmanager_raw("plain").unwrap_err();
    assert_eq!(said, "reading the secret \"plain\" of AWS: InvalidSignatureException: it does not match");
}

#[test]
fn credentials_of_aws_from_what_the_host_lends() {
    let server = secrets_manager("from the file");
    let url = server.url();
    let folder = tempfile::tempdir().unwrap();
    std::fs::create_dir(folder.path().join(".aws")).unwrap();
    let config = format!(
        "[default]\nregion = eu-west-1\n\n[profile prod]\nregion = us-east-2\nendpoint_url = {url}\n\n\
         [profile process]\nregion = us-east-2\nendpoint_url = {url}\ncredential_process = /bin/sh {}/keys.sh\n",
        folder.path().display()
    );
    std::fs::write(folder.path().join(".aws/config"), config).unwrap();
    let keys = "[prod]\naws_access_key_id = AKID\naws_secret_access_key = from the file\n";
    std::fs::write(folder.path().join(".aws/credentials"), keys).unwrap();
    let script = r#"echo '{"Version":1,"AccessKeyId":"AKID","SecretAccessKey":"from the file"}'"#;
    std::fs::write(folder.path().join("keys.sh"), script).unwrap();
    let home = folder.path().to_str().unwrap();
    for profile in ["prod", "process"] {
        let cx = lent(&[("HOME", home), ("AWS_PROFILE", profile), ("PATH", "/usr/bin:/bin")]);
        assert_eq!(cx.aws_secretsmanager_raw("plain").as_deref(), Ok("just text"), "{profile}");
    }
    // The region of the ARN, where nothing else says one.
    let cx = lent(&[
        ("AWS_ENDPOINT_URL", &url),
        ("AWS_ACCESS_KEY_ID", "AKID"),
        ("AWS_SECRET_ACCESS_KEY", "from the file"),
        ("AWS_EC2_METADATA_DISABLED", "true"),
    ]);
    assert!(cx.aws_secretsmanager_raw("arn:aws:secretsmanager:eu-west-1:1:secret:json").is_ok());
    let said = cx.aws_secretsmanager_raw("plain").unwrap_err();
    assert!(
        said.ends_with("the region of AWS is not known: set `region` or the variable AWS_REGION"),
        "{said}"
    );
    // Nothing is lent: nothing is found, whatever this process has.
    let nothing =
        [("AWS_ENDPOINT_URL", url.as_str()), ("AWS_REGION", "x"), ("AWS_EC2_METADATA_DISABLED", "true")];
    let said = lent(&nothing).aws_secretsmanager_raw("plain").unwrap_err();
    assert!(said.contains("No valid credential sources found"), "{said}");
    // Files that the host refuses are none.
    let mut refused = lent(&[("HOME", home), ("AWS_PROFILE", "prod"), ("AWS_EC2_METADATA_DISABLED", "true")]);
    refused.files = Arc::new(NoFiles);
    assert!(RealServices.aws_secret(&refused, "plain").is_err());
}
