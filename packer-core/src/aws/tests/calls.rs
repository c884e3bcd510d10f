//! Calls: again where that may help, and how they fail.

use std::sync::Arc;

use serde_json::json;

use super::fake::{Aws, Reply, SECRET, ok, status};
use crate::aws::{AccessConfig, Service, ServiceError, Session};
use crate::error::Fault;
use crate::testing::{Bench, TempFolder};

fn quiet() -> AccessConfig {
    AccessConfig { skip_credential_validation: true, ..AccessConfig::default() }
}

async fn session(bench: &Bench, options: AccessConfig) -> Arc<Session> {
    options.session(bench.context()).await.unwrap()
}

async fn parameter(session: &Session) -> Result<String, ServiceError> {
    let answer = session.json(Service::SSM, "GetParameter", &json!({ "Name": "/p" })).await?;
    Ok(answer["v"].as_str().unwrap().to_owned())
}

fn refusal(code: &str) -> Reply {
    (
        400,
        "x-amzn-requestid: r-1\r\n".into(),
        format!(r#"{{"__type":"com.amazon#{code}","message":"Rate exceeded"}}"#),
    )
}

#[tokio::test]
async fn what_comes_too_fast_comes_again_as_often_as_it_may() {
    let aws = Aws::new(|_, before| match before {
        0 => refusal("ThrottlingException"),
        1 => status(500, "<html>"),
        _ => ok(r#"{"v":"1"}"#),
    })
    .await;
    let bench = aws.bench_with_keys();
    let of_three = session(&bench, AccessConfig { max_retries: 3, ..quiet() }).await;
    assert_eq!(parameter(&of_three).await.unwrap(), "1");
    let seen = aws.seen();
    assert_eq!(seen.len(), 3);
    assert_eq!(seen[2].header("amz-sdk-request"), "attempt=3; max=3");
    let number = |n: usize| seen[n].header("amz-sdk-invocation-id").to_owned();
    assert!(!number(0).is_empty() && number(0) == number(2));
    assert_eq!(seen[0].scope(), ("OWN".into(), "eu-west-1/ssm/aws4_request".into()));

    let aws = Aws::new(|_, _| refusal("ThrottlingException")).await;
    let bench = aws.bench_with_keys();
    let error =
        parameter(&*session(&bench, AccessConfig { max_retries: 2, ..quiet() }).await).await.unwrap_err();
    assert_eq!(
        error.to_string(),
        "operation error SSM: GetParameter, exceeded maximum number of attempts, 2, https response error StatusCode: 400, \
         RequestID: r-1, api error ThrottlingException: Rate exceeded"
    );
    let error = crate::Error::from(error);
    assert_eq!((error.fault(), error.is_retryable()), (Fault::Provider, true));
    assert_eq!(aws.seen().len(), 2);
}

#[tokio::test]
async fn what_is_refused_is_refused() {
    let aws = Aws::new(|asked, _| match asked.action().as_str() {
        "GetRole" => (
            404,
            String::new(),
            "<ErrorResponse><Error><Code>NoSuchEntity</Code><Message>no &amp; none</Message></Error>\
             <RequestId>r-2</RequestId></ErrorResponse>"
                .into(),
        ),
        "GetParameter" => refusal("ParameterNotFound"),
        _ => ok("no XML"),
    })
    .await;
    let bench = aws.bench_with_keys();
    let session = session(&bench, quiet()).await;
    assert_eq!(parameter(&session).await.unwrap_err().code, "ParameterNotFound");
    let error =
        session.query(Service::IAM, "GetRole", &[("RoleName".into(), "a b&c".into())]).await.unwrap_err();
    assert_eq!(
        (error.code.as_str(), error.message.as_str(), error.request_id.as_str()),
        ("NoSuchEntity", "no & none", "r-2")
    );
    let asked = &aws.seen()[1];
    assert_eq!(asked.form("RoleName"), "a b&c");
    assert_eq!(asked.scope().1, "us-east-1/iam/aws4_request");
    let error = session.query(Service::STS, "X", &[]).await.unwrap_err();
    assert!(error.to_string().contains("the answer cannot be read"), "{error}");
    assert_eq!(aws.seen().len(), 3);
}

#[tokio::test]
async fn nobody_there_is_a_failure_of_the_network() {
    let gone = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let address = format!("http://{}", gone.local_addr().unwrap());
    drop(gone);
    let aws = Aws::new(|_, _| ok("")).await;
    let bench = aws.bench(&[
        ("AWS_ENDPOINT_URL_SSM", &address),
        ("AWS_ACCESS_KEY_ID", "A"),
        ("AWS_SECRET_ACCESS_KEY", SECRET),
    ]);
    let session = session(&bench, AccessConfig { max_retries: 1, ..quiet() }).await;
    let error = parameter(&session).await.unwrap_err();
    assert!(
        error.to_string().contains("request send failed")
            && error.to_string().ends_with("connection refused"),
        "{error}"
    );
    assert_eq!(crate::Error::from(error).fault(), Fault::Network);
}

#[tokio::test]
async fn credentials_that_are_over_are_fetched_anew_once() {
    let folder = TempFolder::new();
    let at = |name: &str| folder.path().join(name).display().to_string();
    // A program that gives other keys each time.
    let program = format!(
        "echo x >> {0}; printf '{{\"Version\": 1, \"AccessKeyId\": \"K%d\", \"SecretAccessKey\": \"{SECRET}\"}}' $(wc -l < {0})",
        at("count")
    );
    std::fs::write(at("config"), format!("[default]\ncredential_process = {program}\n")).unwrap();
    let aws = Aws::new(|asked, _| match asked.scope().0.as_str() {
        "K1" | "K3" | "K4" => refusal("ExpiredTokenException"),
        _ => ok(r#"{"v":"1"}"#),
    })
    .await;
    let bench = aws.bench(&[("AWS_CONFIG_FILE", &at("config"))]);
    let session = session(&bench, quiet()).await;
    assert_eq!(parameter(&session).await.unwrap(), "1");
    assert_eq!(aws.calls(), ["K1 GetParameter", "K2 GetParameter"]);
    // What somebody else has just fetched is what he gets who asks without saying what is over.
    assert_eq!(session.credentials_anew().await.unwrap().access_key, "K2");
    let known = session.credentials().await.unwrap();
    assert_eq!(session.account.credentials_anew(Some(&known)).await.unwrap().access_key, "K3");
    // Once is enough.
    assert_eq!(parameter(&session).await.unwrap_err().code, "ExpiredTokenException");
    assert_eq!(aws.calls()[2..], ["K3 GetParameter", "K4 GetParameter"]);
}

#[tokio::test]
async fn a_clock_that_is_wrong_is_allowed_for() {
    let date = |ahead: i64| {
        let at = jiff::Timestamp::now() + jiff::SignedDuration::from_secs(ahead);
        let text = jiff::fmt::rfc2822::to_string(&at.to_zoned(jiff::tz::TimeZone::UTC)).unwrap();
        format!("date: {}\r\n", text.replace("+0000", "GMT"))
    };
    let aws = Aws::new(move |asked, _| {
        let at = jiff::civil::DateTime::strptime("%Y%m%dT%H%M%SZ", asked.header("x-amz-date")).unwrap();
        let at = at.to_zoned(jiff::tz::TimeZone::UTC).unwrap().timestamp();
        let theirs = jiff::Timestamp::now() + jiff::SignedDuration::from_secs(3600);
        let (status, _, text) = match theirs.duration_since(at).unsigned_abs().as_secs() {
            0..60 => ok(r#"{"v":"1"}"#),
            _ => refusal("SignatureDoesNotMatch"),
        };
        (status, date(3600), text)
    })
    .await;
    let bench = aws.bench_with_keys();
    let session = session(&bench, quiet()).await;
    assert_eq!(parameter(&session).await.unwrap(), "1");
    assert_eq!(parameter(&session).await.unwrap(), "1");
    assert_eq!(aws.seen().len(), 3, "once it is known nothing comes twice");
    // With the right time a wrong signature is no matter of time.
    let aws = Aws::new(move |_, _| (403, date(0), refusal("SignatureDoesNotMatch").2)).await;
    let bench = aws.bench_with_keys();
    let other = self::session(&bench, quiet()).await;
    assert!(parameter(&other).await.is_err());
    assert_eq!(aws.seen().len(), 1);
}

#[tokio::test]
async fn builds_with_the_same_options_share_a_session() {
    let aws = Aws::new(|_, _| ok("<GetCallerIdentityResponse/>")).await;
    let bench = aws.bench_with_keys();
    let mut opening = tokio::task::JoinSet::new();
    for _ in 0..50 {
        let cx = bench.context().clone();
        opening.spawn(async move { AccessConfig::in_region("us-east-1").session(&cx).await.unwrap() });
    }
    let all = opening.join_all().await;
    assert!(all.iter().all(|one| Arc::ptr_eq(one, &all[0])));
    assert_eq!(aws.calls(), ["OWN GetCallerIdentity"]);
    let other = AccessConfig::in_region("us-east-2").session(bench.context()).await.unwrap();
    assert!(!Arc::ptr_eq(&other, &all[0]));
    let elsewhere = all[0].in_region("us-west-2");
    assert!(
        Arc::ptr_eq(&elsewhere, &all[0].in_region("us-west-2"))
            && Arc::ptr_eq(&elsewhere.in_region("us-east-1"), &all[0])
    );
}

#[tokio::test]
async fn who_is_not_known_is_told_before_anything_is_made() {
    let aws = Aws::new(|_, _| {
        (
            403,
            "x-amzn-requestid: r\r\n".into(),
            "<E><Error><Code>InvalidClientTokenId</Code><Message>no</Message></Error></E>".into(),
        )
    })
    .await;
    let bench = aws.bench_with_keys();
    let error = AccessConfig::default().session(bench.context()).await.unwrap_err();
    assert_eq!(
        error.to_string(),
        "validating provider credentials: retrieving caller identity from STS: operation error STS: GetCallerIdentity, \
         https response error StatusCode: 403, RequestID: r, api error InvalidClientTokenId: no"
    );
    assert_eq!(error.fault(), Fault::User);
}

#[tokio::test]
async fn addresses_come_from_variables_and_profiles() {
    let folder = TempFolder::new();
    let file = folder.path().join("config");
    std::fs::write(&file, "[default]\nservices = s\nendpoint_url = http://all\n[services s]\nec2 =\n  endpoint_url = http://ec2\n").unwrap();
    let aws = Aws::new(|_, _| ok("")).await;
    let config = ("AWS_CONFIG_FILE", file.to_str().unwrap());
    let keys = [config, ("AWS_ACCESS_KEY_ID", "A"), ("AWS_SECRET_ACCESS_KEY", SECRET)];
    let found = |more: &[(&'static str, &'static str)], service: Service| {
        let bench = aws.bench(&[keys.as_slice(), more].concat());
        async move { session(&bench, quiet()).await.endpoint(service) }
    };
    let no_general = ("AWS_ENDPOINT_URL", "");
    assert_eq!(found(&[no_general], Service::EC2).await.as_deref(), Some("http://ec2"));
    assert_eq!(found(&[no_general], Service::IAM).await.as_deref(), Some("http://all"));
    assert_eq!(found(&[], Service::EC2).await.as_deref(), Some(aws.address.as_str()));
    assert_eq!(
        found(&[("AWS_ENDPOINT_URL_EC2", "http://own")], Service::EC2).await.as_deref(),
        Some("http://own")
    );
    assert_eq!(found(&[("AWS_IGNORE_CONFIGURED_ENDPOINT_URLS", "true")], Service::EC2).await, None);
    let bench = aws.bench(&keys);
    let custom = AccessConfig { custom_endpoint_ec2: "http://c".into(), ..quiet() };
    let session = session(&bench, custom).await;
    assert_eq!(
        (session.custom_endpoint_ec2(), session.in_region("us-west-2").custom_endpoint_ec2()),
        (Some("http://c"), None)
    );
}

#[tokio::test]
async fn messages_are_decoded_where_that_is_wanted() {
    let aws = Aws::new(|asked, _| match asked.form("EncodedMessage").as_str() {
        "abc-123" => ok("<R><DecodeAuthorizationMessageResult><DecodedMessage>{\"allowed\":false}</DecodedMessage></DecodeAuthorizationMessageResult></R>"),
        _ => status(400, ""),
    })
    .await;
    let bench = aws.bench_with_keys();
    let wanted = session(&bench, AccessConfig { decode_authorization_messages: true, ..quiet() }).await;
    let message = "Not allowed. Encoded authorization failure message: abc-123 (x)";
    assert_eq!(
        wanted.decoded(message).await,
        "Not allowed. Authorization failure message: {\"allowed\":false} (x)"
    );
    for same in ["nothing encoded", "Encoded authorization failure message: other"] {
        assert_eq!(wanted.decoded(same).await, same);
    }
    assert_eq!(session(&bench, quiet()).await.decoded(message).await, message);
    assert_eq!(aws.seen().len(), 2);
}
