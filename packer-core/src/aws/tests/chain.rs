//! Where credentials are found, and in which order.

use std::time::{Duration, Instant};

use super::fake::{Asked, Aws, Reply, SECRET, document, ok, role, status};
use crate::aws::{AccessConfig, AssumeRole, VaultAwsEngine};
use crate::context::PrepareContext;
use crate::testing::{Bench, TempFolder};

/// An AWS that knows everybody and lets everybody take roles on.
async fn aws() -> Aws {
    Aws::new(|asked, _| match asked.action().as_str() {
        "GetCallerIdentity" => ok("<GetCallerIdentityResponse/>"),
        action @ ("AssumeRole" | "AssumeRoleWithWebIdentity") => role(action, asked),
        _ => elsewhere(asked),
    })
    .await
}

/// The services that are beside a machine, Vault, and single sign-on.
fn elsewhere(asked: &Asked) -> Reply {
    let has = |name: &str, value: &str| asked.header(name) == value;
    let path = asked.target.as_str();
    match path.split('?').next().unwrap_or_default() {
        "/container" if has("authorization", "let-me-in") => document("CONTAINER"),
        "/latest/api/token" if asked.method == "PUT" => ok("TOKEN"),
        _ if path.starts_with("/latest/") && !has("x-aws-ec2-metadata-token", "TOKEN") => status(401, ""),
        "/latest/meta-data/iam/security-credentials/" => ok("some-role\n"),
        "/latest/meta-data/iam/security-credentials/some-role" => document("MACHINE"),
        "/latest/meta-data/placement/region" => ok("ap-south-1"),
        "/v1/aws/creds/deploy" if has("x-vault-token", "vault-token") => ok(format!(
            r#"{{"lease_duration":3600,"data":{{"access_key":"VAULT","secret_key":"{SECRET}","security_token":null}}}}"#
        )),
        "/v1/own/sts/deploy" if path.ends_with("?ttl=1h") => ok(format!(
            r#"{{"data":{{"access_key":"VAULT2","secret_key":"{SECRET}","security_token":"x"}}}}"#
        )),
        "/federation/credentials" if has("x-amz-sso_bearer_token", "signed-on") => ok(format!(
            r#"{{"roleCredentials":{{"accessKeyId":"SIGNED","secretAccessKey":"{SECRET}","sessionToken":"s","expiration":2114380800000}}}}"#
        )),
        "/token" if String::from_utf8_lossy(&asked.body).contains(r#""refreshToken":"refresh""#) => {
            ok(r#"{"accessToken":"signed-on","expiresIn":3600}"#)
        }
        _ => status(404, r#"{"errors":[]}"#),
    }
}

/// The access key that is found.
async fn key(bench: &Bench, options: &AccessConfig) -> Result<String, String> {
    let session = options.session(bench.context()).await.map_err(|e| e.to_string())?;
    Ok(session.credentials().await.unwrap().access_key)
}

/// A home folder with AWS's two files.
fn home(config: &str, credentials: &str) -> TempFolder {
    let folder = TempFolder::new();
    std::fs::create_dir_all(folder.path().join(".aws/sso/cache")).unwrap();
    std::fs::write(folder.path().join(".aws/config"), config).unwrap();
    std::fs::write(folder.path().join(".aws/credentials"), credentials).unwrap();
    folder
}

fn profile(name: &str) -> AccessConfig {
    AccessConfig { profile: name.into(), ..AccessConfig::default() }
}

#[tokio::test]
async fn the_options_come_before_variables_and_those_before_profiles_and_the_machine() {
    let aws = aws().await;
    let folder = home(
        "",
        &format!(
            "[default]\naws_access_key_id=FILE\naws_secret_access_key={SECRET}\n[x]\naws_access_key_id=X\naws_secret_access_key={SECRET}\n"
        ),
    );
    let own = ("HOME", folder.path().to_str().unwrap());
    let variables = [own, ("AWS_ACCESS_KEY_ID", "VARIABLE"), ("AWS_SECRET_ACCESS_KEY", SECRET)];
    let static_keys = AccessConfig {
        access_key: "STATIC".into(),
        secret_key: SECRET.into(),
        token: "tok".into(),
        ..profile("x")
    };
    assert_eq!(key(&aws.bench(&variables), &static_keys).await.unwrap(), "STATIC");
    assert_eq!(aws.seen().last().unwrap().header("x-amz-security-token"), "tok");
    assert_eq!(key(&aws.bench(&variables), &profile("x")).await.unwrap(), "X");
    assert_eq!(key(&aws.bench(&variables), &AccessConfig::default()).await.unwrap(), "VARIABLE");
    assert_eq!(key(&aws.bench(&[own]), &AccessConfig::default()).await.unwrap(), "FILE");
    assert_eq!(key(&aws.bench(&[own, ("AWS_PROFILE", "x")]), &AccessConfig::default()).await.unwrap(), "X");
    let uri = format!("{}/container", aws.address);
    let container = [
        ("AWS_CONTAINER_CREDENTIALS_FULL_URI", uri.as_str()),
        ("AWS_CONTAINER_AUTHORIZATION_TOKEN", "let-me-in"),
    ];
    let bench = aws.bench(&container);
    assert_eq!(key(&bench, &AccessConfig::default()).await.unwrap(), "CONTAINER");
    assert_eq!(
        bench.context().secrets().scrub(format!("{SECRET} t-CONTAINER let-me-in")),
        "<sensitive> <sensitive> <sensitive>"
    );
}

#[tokio::test]
async fn where_nothing_is_found_it_is_told() {
    let aws = aws().await;
    let found = |variables: &'static [(&str, &str)], options: AccessConfig| {
        let bench = aws.bench(variables);
        async move { key(&bench, &options).await.unwrap_err() }
    };
    let nothing = "No valid credential sources found";
    assert_eq!(found(&[], AccessConfig::default()).await, nothing);
    assert_eq!(found(&[], profile("nobody")).await, "failed to get shared config profile, nobody");
    let of_variable = found(&[("AWS_PROFILE", "nobody")], AccessConfig::default()).await;
    assert_eq!(of_variable, "failed to get shared config profile, nobody");
    let region = found(&[("AWS_REGION", "")], AccessConfig::default()).await;
    assert!(region.contains("AWS_REGION"), "{region}");
    let wrong = found(&[], AccessConfig::in_region("x.evil.com/")).await;
    assert!(wrong.contains("no region"), "{wrong}");
    let far =
        found(&[("AWS_CONTAINER_CREDENTIALS_FULL_URI", "http://10.0.0.1/")], AccessConfig::default()).await;
    assert!(far.contains("neither HTTPS nor on this computer"), "{far}");
    assert_eq!(aws.calls(), [""; 0]);
}

#[tokio::test]
async fn the_machine_is_asked_with_a_token_unless_nobody_may_ask_it() {
    let aws = aws().await;
    let on = [
        ("AWS_EC2_METADATA_DISABLED", ""),
        ("AWS_REGION", ""),
        ("AWS_EC2_METADATA_SERVICE_ENDPOINT", aws.address.as_str()),
    ];
    let bench = aws.bench(&on);
    let session = AccessConfig::default().session(bench.context()).await.unwrap();
    assert_eq!(
        (session.credentials().await.unwrap().access_key.as_str(), session.region()),
        ("MACHINE", "ap-south-1")
    );
    assert_eq!(aws.calls().iter().filter(|call| call.ends_with("/token")).count(), 1, "{:?}", aws.calls());
    let missing = session.metadata("dynamic/instance-identity/document").await.unwrap_err();
    assert!(missing.to_string().contains("no such entry"), "{missing}");
    let skipped = AccessConfig { skip_metadata_api_check: true, ..AccessConfig::in_region("r") };
    assert_eq!(key(&aws.bench(&on), &skipped).await.unwrap_err(), "No valid credential sources found");
    // Of the old kind, without tokens.
    let old = Aws::new(|asked, _| match asked.target.as_str() {
        "/latest/api/token" => status(403, ""),
        "/latest/meta-data/iam/security-credentials/" => ok("r"),
        "/latest/meta-data/iam/security-credentials/r" => document("OLD"),
        _ => ok("<x/>"),
    })
    .await;
    let bench =
        old.bench(&[("AWS_EC2_METADATA_DISABLED", ""), ("AWS_EC2_METADATA_SERVICE_ENDPOINT", &old.address)]);
    assert_eq!(key(&bench, &AccessConfig::default()).await.unwrap(), "OLD");
}

#[tokio::test]
async fn a_machine_that_does_not_answer_holds_nobody_up() {
    let aws = aws().await;
    // It accepts and says nothing.
    let silent = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let address = format!("http://{}", silent.local_addr().unwrap());
    let began = Instant::now();
    let bench = aws.bench(&[
        ("AWS_EC2_METADATA_DISABLED", ""),
        ("AWS_REGION", ""),
        ("AWS_EC2_METADATA_SERVICE_ENDPOINT", &address),
    ]);
    let found = key(&bench, &AccessConfig::default()).await;
    assert!(found.unwrap_err().contains("region"));
    assert!(began.elapsed() < Duration::from_secs(15), "{:?}", began.elapsed());
}

#[tokio::test]
async fn profiles_take_roles_on_one_after_the_other() {
    let aws = aws().await;
    let folder = home(
        "[profile a]\nrole_arn = role-a\nsource_profile = b\nexternal_id = e\nrole_session_name = s\nduration_seconds = 1800\n\
         [profile b]\nrole_arn = role-b\nsource_profile = c\n[profile m]\nrole_arn = role-m\nsource_profile = c\nmfa_serial = dev\n\
         [profile r]\nrole_arn = x\nsource_profile = q\n[profile q]\nrole_arn = y\nsource_profile = r\n\
         [profile gone]\nrole_arn = x\nsource_profile = nobody\n[profile e]\nrole_arn = role-e\ncredential_source = Environment\n\
         [profile self]\nrole_arn = role-s\nsource_profile = self\naws_access_key_id = SELF\naws_secret_access_key = the-secret-of-all\n",
        &format!("[c]\naws_access_key_id = C\naws_secret_access_key = {SECRET}\n"),
    );
    let bench =
        |more: &[(&str, &str)]| aws.bench(&[&[("HOME", folder.path().to_str().unwrap())], more].concat());
    assert_eq!(key(&bench(&[]), &profile("a")).await.unwrap(), "KEY-role-a");
    assert_eq!(aws.calls(), ["C AssumeRole", "KEY-role-b AssumeRole", "KEY-role-a GetCallerIdentity"]);
    let seen = aws.seen();
    assert_eq!(seen[1].header("x-amz-security-token"), "token-of-role-b");
    let told =
        ["ExternalId", "RoleSessionName", "DurationSeconds", "SerialNumber"].map(|name| seen[1].form(name));
    assert_eq!(told, ["e", "s", "1800", ""]);
    let error = key(&bench(&[]), &profile("m")).await.unwrap_err();
    assert!(error.contains("mfa_code"), "{error}");
    let with_code = AccessConfig { mfa_code: "123456".into(), ..profile("m") };
    assert_eq!(key(&bench(&[]), &with_code).await.unwrap(), "KEY-role-m");
    let told = aws.seen().into_iter().rev().find(|asked| asked.action() == "AssumeRole").unwrap();
    assert_eq!((told.form("SerialNumber"), told.form("TokenCode")), ("dev".into(), "123456".into()));
    let error = key(&bench(&[]), &profile("r")).await.unwrap_err();
    assert!(error.contains("from one another"), "{error}");
    let error = key(&bench(&[]), &profile("gone")).await.unwrap_err();
    assert_eq!(error, "failed to get shared config profile, nobody");
    assert_eq!(key(&bench(&[]), &profile("self")).await.unwrap(), "KEY-role-s");
    let variables = [("AWS_ACCESS_KEY_ID", "VARIABLE"), ("AWS_SECRET_ACCESS_KEY", SECRET)];
    assert_eq!(key(&bench(&variables), &profile("e")).await.unwrap(), "KEY-role-e");
    assert!(aws.calls().contains(&"VARIABLE AssumeRole".to_owned()));
}

#[tokio::test]
async fn the_options_role_is_taken_on_with_all_that_is_said_of_it() {
    let aws = aws().await;
    let role = AssumeRole {
        role_arn: "top".into(),
        external_id: "e".into(),
        policy: "{}".into(),
        policy_arns: vec!["p1".into(), "p2".into()],
        session_name: "s".into(),
        tags: [("Team".into(), "x".into())].into(),
        transitive_tag_keys: vec!["Team".into()],
        ..AssumeRole::default()
    };
    let mut options = AccessConfig { assume_role: Some(role), ..AccessConfig::default() };
    let bench = aws.bench_with_keys();
    assert_eq!(key(&bench, &options).await.unwrap(), "KEY-top");
    assert!(bench.context().secrets().scrub("token-of-top").contains("<sensitive>"));
    let told = &aws.seen()[0];
    for (name, value) in [
        ("Version", "2011-06-15"),
        ("DurationSeconds", "900"),
        ("ExternalId", "e"),
        ("Policy", "{}"),
        ("PolicyArns.member.2.arn", "p2"),
        ("Tags.member.1.Key", "Team"),
        ("Tags.member.1.Value", "x"),
        ("TransitiveTagKeys.member.1", "Team"),
    ] {
        assert_eq!(told.form(name), value, "{name}");
    }
    assert_eq!(told.scope(), ("OWN".into(), "eu-west-1/sts/aws4_request".into()));
    options.mfa_code = "123456".into();
    key(&aws.bench_with_keys(), &options).await.unwrap();
    assert_eq!(aws.calls()[2..], ["OWN AssumeRole", "KEY-top AssumeRole", "KEY-top GetCallerIdentity"]);
}

#[tokio::test]
async fn tokens_programs_and_sign_ons() {
    let aws = aws().await;
    let folder = home(
        "[profile w]\nrole_arn = role-w\nweb_identity_token_file = ~/token\n\
         [profile p]\ncredential_process = echo '{\"Version\": 1, \"AccessKeyId\": \"PROCESS\", \"SecretAccessKey\": \"the-secret-of-all\"}'\n\
         [profile bad]\ncredential_process = echo no >&2; exit 3\n\
         [profile s]\nsso_session = my\nsso_account_id = 1\nsso_role_name = admin\n\
         [sso-session my]\nsso_region = eu-west-1\nsso_start_url = https://start\n\
         [profile old]\nsso_account_id = 1\nsso_role_name = admin\nsso_region = eu-west-1\nsso_start_url = https://start\n",
        "",
    );
    std::fs::write(folder.path().join("token"), "web-token\n").unwrap();
    let kept = |name: &str, text: &str| {
        let file = format!(".aws/sso/cache/{name}.json");
        std::fs::write(folder.path().join(file), text).unwrap();
    };
    let own = ("HOME", folder.path().to_str().unwrap());
    assert_eq!(key(&aws.bench(&[own]), &profile("w")).await.unwrap(), "KEY-role-w");
    let told = &aws.seen()[0];
    assert_eq!((told.form("WebIdentityToken"), told.scope().0), ("web-token".into(), String::new()));
    let variables = [own, ("AWS_WEB_IDENTITY_TOKEN_FILE", "~/token"), ("AWS_ROLE_ARN", "role-v")];
    assert_eq!(key(&aws.bench(&variables), &AccessConfig::default()).await.unwrap(), "KEY-role-v");
    assert_eq!(key(&aws.bench(&[own]), &profile("p")).await.unwrap(), "PROCESS");
    let error = key(&aws.bench(&[own]), &profile("bad")).await.unwrap_err();
    assert!(error.ends_with("exit status: 3: no"), "{error}");
    // The files' names are the digests of `my` and `https://start`.
    let error = key(&aws.bench(&[own]), &profile("s")).await.unwrap_err();
    assert!(error.contains("aws sso login --profile s"), "{error}");
    let digest = |text: &str| -> String {
        use sha1::Digest;
        sha1::Sha1::digest(text).iter().map(|byte| format!("{byte:02x}")).collect()
    };
    kept(
        &digest("my"),
        r#"{"accessToken":"over","expiresAt":"2020-01-01T00:00:00Z","refreshToken":"refresh","clientId":"c","clientSecret":"cs"}"#,
    );
    assert_eq!(key(&aws.bench(&[own]), &profile("s")).await.unwrap(), "SIGNED");
    kept(&digest("https://start"), r#"{"accessToken":"signed-on","expiresAt":"2037-01-01T00:00:00Z"}"#);
    assert_eq!(key(&aws.bench(&[own]), &profile("old")).await.unwrap(), "SIGNED");
    assert_eq!(aws.calls().iter().filter(|call| *call == "POST /token").count(), 1);
}

#[tokio::test]
async fn vault_is_asked_when_the_options_are_checked_and_not_again() {
    let aws = aws().await;
    let bench = aws.bench(&[("VAULT_ADDR", &aws.address), ("VAULT_TOKEN", "vault-token")]);
    let prepare = PrepareContext::new(bench.context().build().clone().into(), bench.context().host().clone());
    let engine = VaultAwsEngine { name: "deploy".into(), ..VaultAwsEngine::default() };
    let options = AccessConfig { vault_aws_engine: Some(engine.clone()), ..AccessConfig::default() };
    assert!(options.check_vault(&prepare).await.is_empty());
    assert_eq!(key(&bench, &options).await.unwrap(), "VAULT");
    assert_eq!(aws.calls(), ["GET /v1/aws/creds/deploy", "VAULT GetCallerIdentity"]);
    assert!(bench.context().secrets().scrub(SECRET).contains("<sensitive>"));
    let mut missing = options.clone();
    missing.vault_aws_engine = Some(VaultAwsEngine { name: "missing".into(), ..engine.clone() });
    let found = missing.check_vault(&prepare).await;
    assert_eq!(found.iter().next().unwrap().summary, "Vault Secret does not exist at the given path.");
    let other = VaultAwsEngine { engine_name: "own".into(), ttl: "1h".into(), ..engine };
    let options = AccessConfig { vault_aws_engine: Some(other), ..AccessConfig::default() };
    assert_eq!(key(&bench, &options).await.unwrap(), "VAULT2");
}
