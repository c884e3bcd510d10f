//! Single sign-on: what somebody who logged in with `aws sso login` may do.

use jiff::{SignedDuration, Timestamp};
use reqwest::Method;
use reqwest::header::{CONTENT_TYPE, HeaderMap, HeaderName, HeaderValue};
use serde_json::{Value as Json, json};
use sha1::{Digest, Sha1};

use super::call::{Call, Payload, Who, unreadable};
use super::chain::setting;
use super::profiles::Settings;
use super::{Account, Credentials, Service, ServiceError};
use crate::error::{Error, Result};
use crate::kit::http::read as read_file;

/// How much longer a token has to be good.
const ROOM: SignedDuration = SignedDuration::from_secs(60);

/// What a profile says of it.
struct SignOn<'a> {
    account: &'a str,
    role: &'a str,
    region: &'a str,
    /// What the file of the token is named after.
    name: &'a str,
}

impl Account {
    /// The credentials of a profile with `sso_account_id`.
    pub(super) async fn of_single_sign_on(&self, profile: &str, settings: &Settings) -> Result<Credentials> {
        let missing = |name: &str| Error::user(format!("the profile {profile:?} has no {name}"));
        // The session has a section of its own, or the profile says it all in the old way.
        let session = setting(settings, "sso_session");
        let shared = match session {
            Some(name) => self.profiles.sso_session(name).ok_or_else(|| {
                Error::user(format!("the sso-session {name:?} of the profile {profile:?} is not in the file"))
            })?,
            None => settings,
        };
        let get = |settings, name| setting(settings, name).ok_or_else(|| missing(name));
        let sign_on = SignOn {
            account: get(settings, "sso_account_id")?,
            role: get(settings, "sso_role_name")?,
            region: get(shared, "sso_region")?,
            name: match session {
                Some(name) => name,
                None => get(shared, "sso_start_url")?,
            },
        };
        if !super::service::is_region(sign_on.region) {
            return Err(Error::user(format!("{:?} is no region of AWS", sign_on.region)));
        }
        let token = self.sign_on_token(&sign_on, profile).await?;
        super::credentials::learn(&self.cx.secrets, &token);
        let answer = self.role_credentials(&sign_on, &token).await.map_err(|e| {
            Error::from(e).context(format!("signing on with the profile {profile:?} (aws sso login)"))
        })?;
        let text = |name: &str| answer["roleCredentials"][name].as_str().filter(|text| !text.is_empty());
        let (Some(access), Some(secret)) = (text("accessKeyId"), text("secretAccessKey")) else {
            return Err(Error::provider("the answer to GetRoleCredentials has no credentials"));
        };
        let mut found = Credentials::new(access, secret);
        found.token = text("sessionToken").map(Into::into);
        let end = answer["roleCredentials"]["expiration"].as_i64();
        found.expires = end.and_then(|end| Timestamp::from_millisecond(end).ok());
        Ok(found)
    }

    /// The token that `aws sso login` left, or one that it can be exchanged for. The file stays as it is: it is of AWS's own
    /// tools.
    async fn sign_on_token(&self, sign_on: &SignOn<'_>, profile: &str) -> Result<String> {
        let name: String = Sha1::digest(sign_on.name).iter().map(|byte| format!("{byte:02x}")).collect();
        let path = format!("~/.aws/sso/cache/{name}.json");
        let log_in = |why: &str| Error::user(format!("{why}: run `aws sso login --profile {profile}`"));
        let bytes = read_file(&self.cx, &path).map_err(|_| log_in("nobody has signed on to AWS"))?;
        let kept: Json = serde_json::from_slice(&bytes).unwrap_or_default();
        let text = |name: &str| kept[name].as_str().filter(|text| !text.is_empty());
        let end: Option<Timestamp> = text("expiresAt").and_then(|text| text.parse().ok());
        if let (Some(token), Some(end)) = (text("accessToken"), end)
            && end.duration_since(Timestamp::now()) > ROOM
        {
            return Ok(token.to_owned());
        }
        let over = || log_in("the sign-on to AWS is over");
        let (Some(refresh), Some(id), Some(secret)) =
            (text("refreshToken"), text("clientId"), text("clientSecret"))
        else {
            return Err(over());
        };
        for secret in [refresh, secret] {
            super::credentials::learn(&self.cx.secrets, secret);
        }
        let body = json!({
            "clientId": id, "clientSecret": secret, "refreshToken": refresh, "grantType": "refresh_token",
        });
        let headers = HeaderMap::from_iter([(CONTENT_TYPE, HeaderValue::from_static("application/json"))]);
        let asked =
            self.rest(Service::SSO_OIDC, sign_on.region, "CreateToken", "token", headers, body.to_string());
        let answer = asked.await.map_err(|e| over().with_source(e))?;
        answer["accessToken"].as_str().map(str::to_owned).ok_or_else(over)
    }

    async fn role_credentials(&self, sign_on: &SignOn<'_>, token: &str) -> Result<Json, ServiceError> {
        let escaped = super::sign::escaped;
        let path = format!(
            "federation/credentials?role_name={}&account_id={}",
            escaped(sign_on.role),
            escaped(sign_on.account)
        );
        let mut headers = HeaderMap::new();
        if let Ok(mut token) = HeaderValue::from_str(token) {
            token.set_sensitive(true);
            headers.insert(HeaderName::from_static("x-amz-sso_bearer_token"), token);
        }
        self.rest(Service::SSO, sign_on.region, "GetRoleCredentials", &path, headers, String::new()).await
    }

    /// A call that is not signed: what is sent says who asks. With a text it is a POST.
    async fn rest(
        &self,
        service: Service,
        region: &str,
        action: &'static str,
        path: &str,
        headers: HeaderMap,
        text: String,
    ) -> Result<Json, ServiceError> {
        let mut url = self.url(service, region, action)?;
        let (path, query) = path.split_once('?').map_or((path, None), |(path, query)| (path, Some(query)));
        url.set_path(&format!("{}/{path}", url.path().trim_end_matches('/')));
        url.set_query(query);
        let method = if text.is_empty() { Method::GET } else { Method::POST };
        let call = Call { service, action, region, method, url, headers, payload: Payload::Text(text) };
        let answer = Box::pin(self.call(&call, Who::Nobody)).await?;
        serde_json::from_slice(&answer.body).map_err(|e| unreadable(service, action, &e))
    }
}
