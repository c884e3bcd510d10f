//! Tokens for Amazon's registries: `GetAuthorizationToken`, asked for over HTTPS.

use base64::Engine as _;
use serde_json::{Value as Json, json};

use super::credentials::Credentials;
use super::login::Login;
use crate::aws::{AccessConfig, Service};
use crate::context::Context;
use crate::error::{Error, Result};

/// The registry that a name stands for.
#[derive(Debug, PartialEq)]
struct Registry {
    /// The account; `None` for the public registry.
    account: Option<String>,
    region: String,
}

impl Registry {
    /// `ACCOUNT.dkr.ecr.REGION.amazonaws.com`, `public.ecr.aws`.
    fn parse(server: &str, public: bool) -> Result<Self> {
        let host = server.strip_prefix("https://").unwrap_or(server);
        let host = host.split('/').next().unwrap_or_default();
        if public || host == "public.ecr.aws" {
            // Only there are tokens for the public registry given out.
            return Ok(Self { account: None, region: "us-east-1".to_owned() });
        }
        let wrong = || {
            Error::user(format!(
                "login_server {server:?} is neither ACCOUNT.dkr.ecr.REGION.amazonaws.com nor public.ecr.aws"
            ))
        };
        let rest = host.strip_suffix(".amazonaws.com.cn").or_else(|| host.strip_suffix(".amazonaws.com"));
        let rest = rest.ok_or_else(wrong)?;
        let parts: Vec<&str> = rest.split('.').collect();
        match parts.as_slice() {
            [account, "dkr", "ecr" | "ecr-fips", region] if !account.is_empty() && !region.is_empty() => {
                Ok(Self { account: Some((*account).to_owned()), region: (*region).to_owned() })
            }
            _ => Err(wrong()),
        }
    }

    fn service(&self) -> Service {
        if self.account.is_some() { Service::ECR } else { Service::ECR_PUBLIC }
    }
}

/// Asks for a token; it is a user's name and password.
pub(super) async fn token(cx: &Context, login: &Login) -> Result<Credentials> {
    let registry = Registry::parse(&login.login_server, login.aws_force_use_public_ecr)?;
    let mut options = AccessConfig::in_region(registry.region.as_str());
    options.access_key.clone_from(&login.aws_access_key);
    options.secret_key = login.aws_secret_key.clone();
    options.token = login.aws_token.clone();
    options.profile.clone_from(&login.aws_profile);
    let session = options.for_one_call().session(cx).await?;
    let service = registry.service();
    let asked =
        registry.account.as_ref().map_or_else(|| json!({}), |account| json!({ "registryIds": [account] }));
    let answer =
        cx.until_cancelled(async { Ok(session.json(service, "GetAuthorizationToken", &asked).await?) });
    let answer = answer.await?;
    let data = match &answer["authorizationData"] {
        Json::Array(items) => items.first().unwrap_or(&Json::Null),
        one => one,
    };
    decode(data["authorizationToken"].as_str().unwrap_or_default())
        .ok_or_else(|| Error::provider(format!("{}: there is no token in the answer", service.name)))
}

fn decode(token: &str) -> Option<Credentials> {
    let pair = base64::engine::general_purpose::STANDARD.decode(token).ok()?;
    let pair = String::from_utf8(pair).ok()?;
    let (user, password) = pair.split_once(':')?;
    Some(Credentials::password(user, password))
}

#[cfg(test)]
mod tests {
    use tokio::io::{AsyncReadExt, AsyncWriteExt};

    use super::*;
    use crate::context::Host;
    use crate::testing::Bench;

    #[test]
    fn registries_by_name() {
        let parse = |name: &str| Registry::parse(name, false).map(|r| (r.account, r.region));
        let found = parse("123.dkr.ecr.eu-west-1.amazonaws.com").unwrap();
        assert_eq!(found, (Some("123".into()), "eu-west-1".into()));
        assert_eq!(parse("https://1.dkr.ecr.cn-north-1.amazonaws.com.cn/x").unwrap().1, "cn-north-1");
        assert_eq!(parse("public.ecr.aws/abc").unwrap().0, None);
        for bad in ["ghcr.io", "dkr.ecr.eu-west-1.amazonaws.com", ".dkr.ecr.x.amazonaws.com"] {
            assert!(parse(bad).is_err(), "{bad}");
        }
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
        for (name, value) in [
            ("AWS_ENDPOINT_URL", address),
            ("AWS_ACCESS_KEY_ID", "AK"),
            ("AWS_SECRET_ACCESS_KEY", "AK-secret"),
        ] {
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
        assert_eq!(bench.context().secrets().scrub("geheim AK-secret"), "<sensitive> <sensitive>");
        let asked = asked.await.unwrap().to_lowercase();
        assert!(
            asked.contains("x-amz-target: amazonec2containerregistry_v20150921.getauthorizationtoken"),
            "{asked}"
        );
        assert!(asked.contains("credential=ak/") && asked.contains("/eu-west-1/ecr/aws4_request"), "{asked}");
        assert!(asked.ends_with(r#"{"registryids":["123"]}"#), "{asked}");
        // Another registry's image has nothing to do with it.
        assert_eq!(login.credentials(bench.context(), "ghcr.io/x").await.unwrap(), None);
    }

    #[tokio::test]
    async fn the_configuration_comes_before_the_variables() {
        let folder = crate::testing::TempFolder::new();
        let file = folder.path().join("credentials");
        std::fs::write(&file, "[x]\naws_access_key_id=OFX\naws_secret_access_key=D\naws_session_token=E\n")
            .unwrap();
        let own = |profile: &str, key: &str| Login {
            ecr_login: true,
            login_server: "public.ecr.aws".into(),
            aws_profile: profile.into(),
            aws_access_key: key.into(),
            aws_secret_key: key.into(),
            ..Login::default()
        };
        for (login, credential, session) in [(own("x", ""), "ofx", true), (own("", "OWN"), "own", false)] {
            let body = r#"{"authorizationData":{"authorizationToken":"QVdTOmdlaGVpbQ=="}}"#;
            let (address, asked) = server("200 OK", body).await;
            let mut host = Host::new();
            for (name, value) in [
                ("AWS_ENDPOINT_URL_ECR_PUBLIC", &*address),
                ("AWS_ACCESS_KEY_ID", "AK"),
                ("AWS_SECRET_ACCESS_KEY", "SK"),
                ("AWS_SESSION_TOKEN", "ST"),
                ("AWS_SHARED_CREDENTIALS_FILE", file.to_str().unwrap()),
            ] {
                host.env.insert(name.into(), value.into());
            }
            let bench = Bench::with_host(host);
            assert!(login.credentials(bench.context(), "public.ecr.aws/x/y").await.unwrap().is_some());
            let asked = asked.await.unwrap().to_lowercase();
            assert!(asked.contains(&format!("credential={credential}/")), "{asked}");
            assert!(asked.contains("/us-east-1/ecr-public/aws4_request"), "{asked}");
            assert_eq!(asked.contains("x-amz-security-token: e"), session, "{asked}");
        }
    }

    #[tokio::test]
    async fn a_refusal_says_why() {
        let login = Login { ecr_login: true, login_server: "public.ecr.aws".into(), ..Login::default() };
        let (address, _asked) =
            server("400 Bad Request", r#"{"__type":"InvalidSignatureException","message":"expired"}"#).await;
        let bench = bench(&address);
        let error = login.credentials(bench.context(), "public.ecr.aws/x/y").await.unwrap_err();
        assert!(error.message().ends_with("InvalidSignatureException: expired"), "{error}");
        let mut host = Host::new();
        host.env.insert("AWS_EC2_METADATA_DISABLED".into(), "true".into());
        let none = Bench::with_host(host);
        let error = login.credentials(none.context(), "public.ecr.aws/x/y").await.unwrap_err();
        assert!(error.message().contains("No valid credential sources found"), "{error}");
    }
}
