//! Values of HashiCorp Consul's key/value store.

use std::borrow::Cow;
use std::time::Duration;

use reqwest::StatusCode;

use crate::kit::http::{self, Options, Server, send, switch, variable};
use crate::language::functions::Capabilities;

/// How long a request may take.
const LIMIT: Duration = Duration::from_secs(60);

/// How often a request is sent again where the server or the way to it fails.
const RETRIES: u32 = 2;

/// The value of a key; empty where it is empty.
pub(super) async fn read(cx: &Capabilities, key: &str) -> Result<String, String> {
    let mut request = server(cx)?.get(&format!("v1/kv/{}", key.trim_start_matches('/')))?;
    request = request.query(&[("raw", "")]);
    for (name, parameter) in [("CONSUL_NAMESPACE", "ns"), ("CONSUL_PARTITION", "partition")] {
        if let Some(value) = variable(cx, name) {
            request = request.query(&[(parameter, value)]);
        }
    }
    if let Some(token) = token(cx)? {
        cx.secrets.add(&token);
        request = request.header("X-Consul-Token", &*token);
    }
    if let Some(login) = variable(cx, "CONSUL_HTTP_AUTH") {
        let (user, password) = login.split_once(':').unwrap_or((login, ""));
        cx.secrets.add(password);
        request = request.basic_auth(user, Some(password));
    }
    let asked = send(request, RETRIES).await;
    let (status, body) = asked.map_err(|e| format!("reading the Consul key {key:?}: {e}"))?;
    match status {
        StatusCode::OK => {
            String::from_utf8(body).map_err(|_| format!("the value of the Consul key {key:?} is not UTF-8"))
        }
        StatusCode::NOT_FOUND => Err(format!("there is no Consul key {key:?}")),
        status => {
            let said = String::from_utf8_lossy(&body);
            Err(format!("reading the Consul key {key:?}: {status}: {}", said.trim()))
        }
    }
}

fn server(cx: &Capabilities) -> Result<Server, String> {
    let address = variable(cx, "CONSUL_HTTP_ADDR").unwrap_or("127.0.0.1:8500");
    let address: Cow<'_, str> = match address.contains("://") {
        true => address.into(),
        false if switch(cx, "CONSUL_HTTP_SSL")? == Some(true) => format!("https://{address}").into(),
        false => format!("http://{address}").into(),
    };
    let options = Options {
        ca_file: variable(cx, "CONSUL_CACERT"),
        ca_folder: variable(cx, "CONSUL_CAPATH"),
        client: variable(cx, "CONSUL_CLIENT_CERT").zip(variable(cx, "CONSUL_CLIENT_KEY")),
        insecure: switch(cx, "CONSUL_HTTP_SSL_VERIFY")? == Some(false),
        server_name: variable(cx, "CONSUL_TLS_SERVER_NAME"),
        limit: LIMIT,
        ..Options::default()
    };
    Server::new(cx, &address, &options)
}

/// The token, itself or from a file.
fn token(cx: &Capabilities) -> Result<Option<Cow<'_, str>>, String> {
    if let Some(token) = variable(cx, "CONSUL_HTTP_TOKEN") {
        return Ok(Some(token.into()));
    }
    let Some(path) = variable(cx, "CONSUL_HTTP_TOKEN_FILE") else { return Ok(None) };
    let text = String::from_utf8(http::read(cx, path)?).map_err(|_| format!("{path} is not UTF-8"))?;
    Ok(Some(text.trim().to_owned().into()))
}
