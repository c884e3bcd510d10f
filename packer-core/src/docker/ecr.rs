//! Tokens for Amazon's registries: `GetAuthorizationToken`, asked for over HTTPS and signed with Signature Version 4.

use std::io;
use std::path::PathBuf;

use base64::Engine as _;
use hmac::{Hmac, KeyInit, Mac};
use serde_json::json;
use sha2::{Digest, Sha256};

use super::credentials::Credentials;
use super::login::Login;
use crate::context::Context;
use crate::error::{Error, Result};
use crate::secrets::Secret;

/// The registry that a name stands for.
#[derive(Debug, PartialEq)]
struct Registry {
    /// The account; `None` for the public registry.
    account: Option<String>,
    region: String,
    domain: &'static str,
}

impl Registry {
    /// `ACCOUNT.dkr.ecr.REGION.amazonaws.com`, `public.ecr.aws`.
    fn parse(server: &str, public: bool) -> Result<Self> {
        let host = server.strip_prefix("https://").unwrap_or(server);
        let host = host.split('/').next().unwrap_or_default();
        if public || host == "public.ecr.aws" {
            // Only there are tokens for the public registry given out.
            return Ok(Self { account: None, region: "us-east-1".to_owned(), domain: "amazonaws.com" });
        }
        let wrong = || {
            Error::user(format!(
                "login_server {server:?} is neither ACCOUNT.dkr.ecr.REGION.amazonaws.com nor public.ecr.aws"
            ))
        };
        let (rest, domain) = match host.strip_suffix(".amazonaws.com.cn") {
            Some(rest) => (rest, "amazonaws.com.cn"),
            None => (host.strip_suffix(".amazonaws.com").ok_or_else(wrong)?, "amazonaws.com"),
        };
        let parts: Vec<&str> = rest.split('.').collect();
        match parts.as_slice() {
            [account, "dkr", "ecr" | "ecr-fips", region] if !account.is_empty() && !region.is_empty() => {
                Ok(Self { account: Some((*account).to_owned()), region: (*region).to_owned(), domain })
            }
            _ => Err(wrong()),
        }
    }

    fn service(&self) -> &'static str {
        if self.account.is_some() { "ecr" } else { "ecr-public" }
    }

    fn target(&self) -> &'static str {
        match self.account {
            Some(_) => "AmazonEC2ContainerRegistry_V20150921.GetAuthorizationToken",
            None => "SpencerFrontendService.GetAuthorizationToken",
        }
    }

    /// Where it is asked: what `AWS_ENDPOINT_URL_…` says, else Amazon's own address.
    fn endpoint(&self, cx: &Context) -> String {
        let set = |name: &str| cx.env(name).filter(|value| !value.is_empty()).map(str::to_owned);
        let own = if self.account.is_some() { "AWS_ENDPOINT_URL_ECR" } else { "AWS_ENDPOINT_URL_ECR_PUBLIC" };
        set(own)
            .or_else(|| set("AWS_ENDPOINT_URL"))
            .unwrap_or_else(|| format!("https://api.{}.{}.{}", self.service(), self.region, self.domain))
    }
}

/// Asks for a token; it is a user's name and password.
pub(super) async fn token(cx: &Context, login: &Login) -> Result<Credentials> {
    let registry = Registry::parse(&login.login_server, login.aws_force_use_public_ecr)?;
    let keys = Keys::find(cx, login)?;
    for secret in [&keys.secret, &keys.session] {
        cx.secrets().add(secret.reveal());
    }
    let endpoint = registry.endpoint(cx);
    let url = reqwest::Url::parse(&endpoint).map_err(|e| Error::user(format!("{endpoint}: {e}")))?;
    let host = match (url.host_str(), url.port()) {
        (Some(host), Some(port)) => format!("{host}:{port}"),
        (Some(host), None) => host.to_owned(),
        (None, _) => return Err(Error::user(format!("{endpoint}: there is no host in it"))),
    };
    let body = match &registry.account {
        Some(account) => json!({ "registryIds": [account] }),
        None => json!({}),
    }
    .to_string();
    let now = cx.clock().now().strftime("%Y%m%dT%H%M%SZ").to_string();
    let mut headers = vec![
        ("content-type", "application/x-amz-json-1.1".to_owned()),
        ("host", host),
        ("x-amz-date", now.clone()),
    ];
    if !keys.session.is_empty() {
        headers.push(("x-amz-security-token", keys.session.reveal().to_owned()));
    }
    headers.push(("x-amz-target", registry.target().to_owned()));
    let authorization = sign(&keys, &registry.region, registry.service(), &now, &headers, body.as_bytes());
    let client = reqwest::Client::builder().build().map_err(|e| Error::internal(e.to_string()))?;
    let mut request = client.post(url).body(body).header("authorization", authorization);
    for (name, value) in headers.iter().filter(|(name, _)| *name != "host") {
        request = request.header(*name, value);
    }
    let failed = |e: reqwest::Error| Error::network(format!("{endpoint}: {}", e.without_url()));
    let answer = request.send().await.map_err(failed)?;
    let status = answer.status();
    let text = answer.text().await.map_err(failed)?;
    let answer: serde_json::Value = serde_json::from_str(&text).unwrap_or_default();
    if !status.is_success() {
        let why = answer["message"].as_str().or(answer["Message"].as_str()).unwrap_or("no reason given");
        let kind = answer["__type"].as_str().unwrap_or_default();
        return Err(Error::user(format!("{endpoint}: {status}: {kind} {why}")));
    }
    let data = match &answer["authorizationData"] {
        serde_json::Value::Array(items) => items.first().cloned().unwrap_or_default(),
        one => one.clone(),
    };
    decode(data["authorizationToken"].as_str().unwrap_or_default())
        .ok_or_else(|| Error::provider(format!("{endpoint}: there is no token in the answer")))
}

fn decode(token: &str) -> Option<Credentials> {
    let pair = base64::engine::general_purpose::STANDARD.decode(token).ok()?;
    let pair = String::from_utf8(pair).ok()?;
    let (user, password) = pair.split_once(':')?;
    Some(Credentials::password(user, password))
}

/// What signs a request.
#[derive(Debug, PartialEq)]
struct Keys {
    access: String,
    secret: Secret,
    session: Secret,
}

impl Keys {
    /// The configuration's, the environment's (unless a profile is named), or the shared credentials file's.
    fn find(cx: &Context, login: &Login) -> Result<Self> {
        if !login.aws_access_key.is_empty() {
            return Ok(Self {
                access: login.aws_access_key.clone(),
                secret: login.aws_secret_key.clone(),
                session: login.aws_token.clone(),
            });
        }
        let set = |name: &str| cx.env(name).filter(|value| !value.is_empty());
        if login.aws_profile.is_empty()
            && let (Some(access), Some(secret)) = (set("AWS_ACCESS_KEY_ID"), set("AWS_SECRET_ACCESS_KEY"))
        {
            let session = set("AWS_SESSION_TOKEN").unwrap_or_default();
            return Ok(Self { access: access.to_owned(), secret: secret.into(), session: session.into() });
        }
        let profile = match login.aws_profile.as_str() {
            "" => set("AWS_PROFILE").unwrap_or("default"),
            own => own,
        };
        let file = set("AWS_SHARED_CREDENTIALS_FILE").map(PathBuf::from).or_else(|| {
            let home = set("HOME").or_else(|| set("USERPROFILE"))?;
            Some(PathBuf::from(home).join(".aws/credentials"))
        });
        let nothing = || {
            Error::user(format!(
                "there are no keys: neither aws_access_key, nor AWS_ACCESS_KEY_ID, nor the profile {profile:?} of the shared \
                 credentials file (roles of instances and single sign-on are not asked)"
            ))
        };
        let file = file.ok_or_else(nothing)?;
        let text = match std::fs::read_to_string(&file) {
            Ok(text) => text,
            Err(e) if e.kind() == io::ErrorKind::NotFound => return Err(nothing()),
            Err(e) => return Err(Error::io("open", &file, e)),
        };
        Self::in_file(&text, profile).ok_or_else(nothing)
    }

    fn in_file(text: &str, profile: &str) -> Option<Self> {
        let mut keys = Self { access: String::new(), secret: Secret::default(), session: Secret::default() };
        let mut inside = false;
        for line in text.lines().map(str::trim) {
            if let Some(name) = line.strip_prefix('[').and_then(|line| line.strip_suffix(']')) {
                inside = name.trim() == profile;
            } else if let (true, Some((name, value))) = (inside, line.split_once('=')) {
                let value = value.trim();
                match name.trim() {
                    "aws_access_key_id" => keys.access = value.to_owned(),
                    "aws_secret_access_key" => keys.secret = value.into(),
                    "aws_session_token" => keys.session = value.into(),
                    _ => {}
                }
            }
        }
        (!keys.access.is_empty() && !keys.secret.is_empty()).then_some(keys)
    }
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

fn keyed(key: &[u8], text: &str) -> Vec<u8> {
    // HMAC takes keys of any length.
    let Ok(mut mac) = Hmac::<Sha256>::new_from_slice(key) else { return Vec::new() };
    mac.update(text.as_bytes());
    mac.finalize().into_bytes().to_vec()
}

/// The header `Authorization` of a `POST /` with these headers, which are in the order of their names.
fn sign(
    keys: &Keys,
    region: &str,
    service: &str,
    now: &str,
    headers: &[(&str, String)],
    body: &[u8],
) -> String {
    let day = &now[..8.min(now.len())];
    let names: Vec<&str> = headers.iter().map(|(name, _)| *name).collect();
    let names = names.join(";");
    let lines: String = headers.iter().map(|(name, value)| format!("{name}:{}\n", value.trim())).collect();
    let request = format!("POST\n/\n\n{lines}\n{names}\n{}", hex(&Sha256::digest(body)));
    let scope = format!("{day}/{region}/{service}/aws4_request");
    let text = format!("AWS4-HMAC-SHA256\n{now}\n{scope}\n{}", hex(&Sha256::digest(request.as_bytes())));
    let key = keyed(format!("AWS4{}", keys.secret.reveal()).as_bytes(), day);
    let key = [region, service, "aws4_request"].iter().fold(key, |key, part| keyed(&key, part));
    let signature = hex(&keyed(&key, &text));
    format!(
        "AWS4-HMAC-SHA256 Credential={}/{scope}, SignedHeaders={names}, Signature={signature}",
        keys.access
    )
}

#[cfg(test)]
mod tests {
    use tokio::io::{AsyncReadExt, AsyncWriteExt};

    use super::*;
    use crate::context::Host;
    use crate::testing::Bench;

    #[test]
    fn registries_by_name() {
        let parse = |name: &str| Registry::parse(name, false).map(|r| (r.account, r.region, r.domain));
        let found = parse("123.dkr.ecr.eu-west-1.amazonaws.com").unwrap();
        assert_eq!(found, (Some("123".into()), "eu-west-1".into(), "amazonaws.com"));
        assert_eq!(parse("https://1.dkr.ecr.cn-north-1.amazonaws.com.cn/x").unwrap().2, "amazonaws.com.cn");
        assert_eq!(parse("public.ecr.aws/abc").unwrap().0, None);
        for bad in ["ghcr.io", "dkr.ecr.eu-west-1.amazonaws.com", ".dkr.ecr.x.amazonaws.com"] {
            assert!(parse(bad).is_err(), "{bad}");
        }
    }

    /// The request `post-vanilla` of Amazon's own test suite for signatures.
    #[test]
    fn signatures_are_amazons() {
        let keys = Keys {
            access: "AKIDEXAMPLE".into(),
            secret: "wJalrXUtnFEMI/K7MDENG+bPxRfiCYEXAMPLEKEY".into(),
            session: Secret::default(),
        };
        let headers =
            [("host", "example.amazonaws.com".to_owned()), ("x-amz-date", "20150830T123600Z".to_owned())];
        assert_eq!(
            sign(&keys, "us-east-1", "service", "20150830T123600Z", &headers, b""),
            "AWS4-HMAC-SHA256 Credential=AKIDEXAMPLE/20150830/us-east-1/service/aws4_request, SignedHeaders=host;x-amz-date, \
             Signature=5da7c1a2acd57cee7505fc6676e4e544621c30862966e37dddb68e92efbe5d6b"
        );
    }

    #[test]
    fn profiles_of_the_shared_file() {
        let text = "[default]\naws_access_key_id = A\naws_secret_access_key=B\n[x]\naws_access_key_id=C\naws_secret_access_key=D\naws_session_token=E\n";
        assert_eq!(Keys::in_file(text, "x").unwrap().session.reveal(), "E");
        assert_eq!(Keys::in_file(text, "default").unwrap().access, "A");
        assert_eq!(Keys::in_file(text, "y"), None);
    }

    /// A server that gives one answer; what it was asked.
    async fn server(status: &str, body: &str) -> (String, tokio::task::JoinHandle<String>) {
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = format!("http://{}", listener.local_addr().unwrap());
        let answer =
            format!("HTTP/1.1 {status}\r\ncontent-length: {}\r\nconnection: close\r\n\r\n{body}", body.len());
        let task = tokio::spawn(async move {
            let (mut stream, _) = listener.accept().await.unwrap();
            let mut asked = vec![0; 16 * 1024];
            let mut length = 0;
            while !String::from_utf8_lossy(&asked[..length]).contains('}') {
                length += stream.read(&mut asked[length..]).await.unwrap();
            }
            stream.write_all(answer.as_bytes()).await.unwrap();
            String::from_utf8_lossy(&asked[..length]).into_owned()
        });
        (address, task)
    }

    fn bench(address: &str) -> Bench {
        let mut host = Host::new();
        for (name, value) in
            [("AWS_ENDPOINT_URL", address), ("AWS_ACCESS_KEY_ID", "AK"), ("AWS_SECRET_ACCESS_KEY", "SK")]
        {
            host.env.insert(name.into(), value.into());
        }
        Bench::with_host(host)
    }

    #[tokio::test]
    async fn a_token_is_asked_for() {
        let login = Login {
            ecr_login: true,
            login_server: "123.dkr.ecr.eu-west-1.amazonaws.com".into(),
            ..Login::default()
        };
        // AWS:geheim
        let (address, asked) =
            server("200 OK", r#"{"authorizationData":[{"authorizationToken":"QVdTOmdlaGVpbQ=="}]}"#).await;
        let bench = bench(&address);
        let image = "123.dkr.ecr.eu-west-1.amazonaws.com/web:1";
        let found = login.credentials(bench.context(), image).await.unwrap();
        assert_eq!(found, Some(Credentials::password("AWS", "geheim")));
        assert_eq!(bench.context().secrets().scrub("geheim SK"), "<sensitive> <sensitive>");
        let asked = asked.await.unwrap().to_lowercase();
        assert!(
            asked.contains("x-amz-target: amazonec2containerregistry_v20150921.getauthorizationtoken"),
            "{asked}"
        );
        assert!(asked.contains(
            "/eu-west-1/ecr/aws4_request, signedheaders=content-type;host;x-amz-date;x-amz-target"
        ));
        assert!(asked.ends_with(r#"{"registryids":["123"]}"#), "{asked}");
        // Another registry's image has nothing to do with it.
        assert_eq!(login.credentials(bench.context(), "ghcr.io/x").await.unwrap(), None);
    }

    #[tokio::test]
    async fn a_refusal_says_why() {
        let login = Login { ecr_login: true, login_server: "public.ecr.aws".into(), ..Login::default() };
        let (address, _asked) =
            server("400 Bad Request", r#"{"__type":"InvalidSignatureException","message":"expired"}"#).await;
        let bench = bench(&address);
        let error = login.credentials(bench.context(), "public.ecr.aws/x/y").await.unwrap_err();
        assert!(error.message().ends_with("400 Bad Request: InvalidSignatureException expired"), "{error}");
        let none = Bench::new();
        let error = login.credentials(none.context(), "public.ecr.aws/x/y").await.unwrap_err();
        assert!(error.message().contains("there are no keys"), "{error}");
    }
}
