//! Secrets of HashiCorp Vault.

use std::time::Duration;

use reqwest::StatusCode;
use serde_json::Value as Json;

use crate::kit::http::{Options, Server, send, switch, variable};
use crate::language::functions::Capabilities;

/// How long a request may take unless `VAULT_CLIENT_TIMEOUT` says otherwise.
const LIMIT: Duration = Duration::from_secs(60);

/// The field `key` of the secret at `path`.
pub(super) async fn read(cx: &Capabilities, path: &str, key: &str) -> Result<String, String> {
    let token = variable(cx, "VAULT_TOKEN").ok_or("the variable VAULT_TOKEN must be set")?;
    cx.secrets.add(token);
    let server = server(cx)?;
    let mut request = server
        .get(&format!("v1/{}", path.trim_matches('/')))?
        .header("X-Vault-Token", token)
        .header("X-Vault-Request", "true");
    if let Some(namespace) = variable(cx, "VAULT_NAMESPACE") {
        request = request.header("X-Vault-Namespace", namespace);
    }
    let retries = variable(cx, "VAULT_MAX_RETRIES").map_or(Ok(2), str::parse);
    let retries = retries.map_err(|_| "the variable VAULT_MAX_RETRIES must be a number")?;
    let asked = send(request, retries).await;
    let (status, body) = asked.map_err(|e| format!("reading {path:?} of Vault: {e}"))?;
    let answer: Json = serde_json::from_slice(&body).unwrap_or_default();
    if !status.is_success() {
        return Err(refused(path, status, &answer));
    }
    field(&answer, path, key)
}

fn server(cx: &Capabilities) -> Result<Server, String> {
    let agent = variable(cx, "VAULT_AGENT_ADDR");
    let address = agent.or_else(|| variable(cx, "VAULT_ADDR")).unwrap_or("https://127.0.0.1:8200");
    let limit = match variable(cx, "VAULT_CLIENT_TIMEOUT") {
        None => LIMIT,
        Some(text) => match text.parse() {
            Ok(seconds) => Duration::from_secs(seconds),
            Err(_) => text
                .parse::<crate::duration::GoDuration>()
                .map_err(|e| format!("the variable VAULT_CLIENT_TIMEOUT: {e}"))?
                .to_std(),
        },
    };
    let options = Options {
        ca_file: variable(cx, "VAULT_CACERT"),
        ca_folder: variable(cx, "VAULT_CAPATH"),
        ca_text: variable(cx, "VAULT_CACERT_BYTES"),
        client: variable(cx, "VAULT_CLIENT_CERT").zip(variable(cx, "VAULT_CLIENT_KEY")),
        insecure: switch(cx, "VAULT_SKIP_VERIFY")?.unwrap_or(false),
        server_name: variable(cx, "VAULT_TLS_SERVER_NAME"),
        proxy: variable(cx, "VAULT_PROXY_ADDR").or_else(|| variable(cx, "VAULT_HTTP_PROXY")),
        limit,
    };
    Server::new(cx, address, &options)
}

/// The field of an answer. A secret of version 2 has its fields in an object `data` of its own.
fn field(answer: &Json, path: &str, key: &str) -> Result<String, String> {
    let outer = answer.get("data").and_then(Json::as_object);
    let outer =
        outer.ok_or_else(|| format!("there is no secret at {path:?} of Vault{}", warnings(answer)))?;
    let fields = match outer.get("data") {
        Some(Json::Object(inner)) => inner,
        Some(Json::Null) if outer.contains_key("metadata") => {
            return Err(format!("the secret at {path:?} of Vault is deleted"));
        }
        _ => outer,
    };
    match fields.get(key) {
        Some(Json::String(text)) => Ok(text.clone()),
        Some(value @ (Json::Number(_) | Json::Bool(_))) => Ok(value.to_string()),
        Some(_) => Err(format!("the field {key:?} of the secret at {path:?} of Vault is no text")),
        None => Err(format!("the secret at {path:?} of Vault has no field {key:?}{}", warnings(answer))),
    }
}

fn refused(path: &str, status: StatusCode, answer: &Json) -> String {
    let errors: Vec<&str> = texts(answer, "errors").collect();
    match (status, errors.is_empty()) {
        // A deleted one of version 2 is not found either, but comes with what is known of it.
        (StatusCode::NOT_FOUND, true) if answer.pointer("/data/metadata").is_some() => {
            format!("the secret at {path:?} of Vault is deleted")
        }
        (StatusCode::NOT_FOUND, true) => {
            format!("there is no secret at {path:?} of Vault{}", warnings(answer))
        }
        (_, true) => format!("reading {path:?} of Vault: {status}"),
        (_, false) => format!("reading {path:?} of Vault: {status}: {}", errors.join("; ")),
    }
}

/// What Vault says beside its answer: that a path is one of version 2, for instance.
fn warnings(answer: &Json) -> String {
    let warnings: Vec<&str> = texts(answer, "warnings").collect();
    if warnings.is_empty() { String::new() } else { format!(" ({})", warnings.join("; ")) }
}

fn texts<'a>(answer: &'a Json, name: &str) -> impl Iterator<Item = &'a str> {
    answer.get(name).and_then(Json::as_array).into_iter().flatten().filter_map(Json::as_str)
}
