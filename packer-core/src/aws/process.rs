//! A profile's `credential_process`: a command that prints credentials.

use std::process::Stdio;
use std::time::Duration;

use serde_json::Value as Json;

use crate::kit::shell::process;
use crate::language::functions::Capabilities;
use crate::secrets::first_lines;

/// How much it may print, in bytes.
const MOST: usize = 1 << 20;

/// How much of what it says about a failure is shown, in bytes.
const MOST_SAID: usize = 4096;

/// How long it may take. It may ask somebody for a code.
const LIMIT: Duration = Duration::from_secs(60);

/// What the command prints, read as JSON. The system's shell runs it, with the variables that the host lends.
pub(super) async fn answer(cx: &Capabilities, command: &str) -> Result<Json, String> {
    let (shell, flag) = if cfg!(windows) { ("cmd.exe", "/C") } else { ("sh", "-c") };
    let mut program = tokio::process::Command::new(shell);
    program.args([flag, command]).env_clear().envs(cx.env.iter()).kill_on_drop(true);
    program.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
    let run = async { process::output(process::spawn(&mut program)?, MOST).await };
    let failed = |why: &str| format!("the credential_process {command:?} of AWS: {why}");
    let ran = tokio::time::timeout(LIMIT, run).await;
    let output = ran.map_err(|_| failed(&format!("it takes longer than {} seconds", LIMIT.as_secs())))?;
    let output = output.map_err(|e| failed(&crate::error::os_text(&e)))?;
    if !output.status.success() {
        let said = String::from_utf8_lossy(&output.stderr);
        return Err(failed(&format!("{}: {}", output.status, first_lines(said.trim(), MOST_SAID))));
    }
    let answer: Json =
        serde_json::from_slice(&output.stdout).map_err(|_| failed("what it prints is no JSON"))?;
    match answer.get("Version").and_then(Json::as_i64) {
        Some(1) => Ok(answer),
        _ => Err(failed("what it prints is not of version 1")),
    }
}
