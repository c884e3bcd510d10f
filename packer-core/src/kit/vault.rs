//! HashiCorp Vault as it is asked, with the variables of its own tools.

use std::time::Duration;

use reqwest::StatusCode;
use serde_json::Value as Json;

use super::http::{Options, Server, send, switch, variable};
use crate::language::functions::Capabilities;

/// How long a request may take unless `VAULT_CLIENT_TIMEOUT` says otherwise.
const LIMIT: Duration = Duration::from_secs(60);

/// What stands at a path.
pub(crate) async fn read(
    cx: &Capabilities,
    path: &str,
    query: &[(&str, &str)],
) -> Result<(StatusCode, Json), String> {
    let token = variable(cx, "VAULT_TOKEN").ok_or("the variable VAULT_TOKEN must be set")?;
    cx.secrets.add(token);
    let server = server(cx)?;
    let mut request = server
        .get(&format!("v1/{}", path.trim_matches('/')))?
        .query(query)
        .header("X-Vault-Token", token)
        .header("X-Vault-Request", "true");
    if let Some(namespace) = variable(cx, "VAULT_NAMESPACE") {
        request = request.header("X-Vault-Namespace", namespace);
    }
    let retries = variable(cx, "VAULT_MAX_RETRIES").map_or(Ok(2), str::parse);
    let retries = retries.map_err(|_| "the variable VAULT_MAX_RETRIES must be a number")?;
    let sent = send(request, retries).await;
    let (status, body) = sent.map_err(|e| format!("reading {path:?} of Vault: {e}"))?;
    Ok((status, serde_json::from_slice(&body).unwrap_or_default()))
}

/// What Vault says of a request that it refuses, behind a colon; empty where it says nothing.
pub(crate) fn errors(answer: &Json) -> String {
    let errors: Vec<&str> = texts(answer, "errors").collect();
    if errors.is_empty() { String::new() } else { format!(": {}", errors.join("; ")) }
}

/// The texts of a list in an answer.
pub(crate) fn texts<'a>(answer: &'a Json, name: &str) -> impl Iterator<Item = &'a str> {
    answer.get(name).and_then(Json::as_array).into_iter().flatten().filter_map(Json::as_str)
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
