//! The session manager: a port of this computer that leads to the instance, through AWS's own program.

use std::time::Duration;

use packer_core::aws::Service;
use packer_core::aws::ec2::Ec2;
use packer_core::kit::ReservedPort;
use packer_core::kit::process::{Process, Program};
use packer_core::{Error, Result, Target};
use serde_json::{Value as Json, json};

use crate::amazon::job::Job;
use crate::amazon::resources;

/// AWS's program.
const PLUGIN: &str = "session-manager-plugin";

/// How long the instance may take until it answers the session manager.
const AGENT: Duration = Duration::from_secs(15 * 60);

/// A session: it lasts as long as this does.
pub(in crate::amazon) struct Session {
    pub(in crate::amazon) port: u16,
    _program: Process,
    _reserved: Option<ReservedPort>,
}

/// Opens a session that leads from a port here to the communicator's there.
pub(in crate::amazon) async fn open(job: &Job<'_>, instance: &str) -> Result<Session> {
    let (cx, run) = (job.cx, job.run);
    if !is_there(job) {
        return Err(Error::user(format!(
            "ssh_interface = \"session_manager\" needs AWS's program {PLUGIN}, which is not in the PATH"
        )));
    }
    if !run.pause_before_ssm.is_zero() {
        cx.say(format!("Waiting {} before establishing the SSM session...", run.pause_before_ssm));
        cx.sleep(run.pause_before_ssm.to_std()).await?;
    }
    let (port, reserved) = match u16::try_from(run.session_manager_port) {
        Ok(port) if port != 0 => (port, None),
        _ => {
            let mut reserved = cx.reserve_port(8000..=9000)?;
            (reserved.hand_over(), Some(reserved))
        }
    };
    let there = run.communicator.endpoint(&Target::new("localhost", 0)).map_or(22, |(_, port)| port);
    let parameters = json!({
        "Target": instance,
        "DocumentName": "AWS-StartPortForwardingSession",
        "Parameters": { "portNumber": [there.to_string()], "localPortNumber": [port.to_string()] },
    });
    let answer = start(job, instance, &parameters).await?;
    let id = answer["SessionId"].as_str().unwrap_or_default().to_owned();
    if let Some(token) = answer["TokenValue"].as_str() {
        cx.secrets().add(token);
    }
    // One whose id nobody has heard of ends by itself, since nobody uses it.
    cx.record(job.resource(resources::SESSION, &id, &job.ec2, json!({ "id": id })))?;
    cx.say(format!("Starting portForwarding session {id:?}."));
    let url = answer["StreamUrl"].as_str().unwrap_or_default();
    let program = Program::new(PLUGIN)
        .arg(answer.to_string())
        .arg(job.ec2.region())
        .arg("StartSession")
        .arg(job.access.profile.as_str())
        .arg(parameters.to_string())
        .arg(url);
    let program = program.start(cx)?;
    Ok(Session { port, _program: program, _reserved: reserved })
}

/// Whether AWS's program is in the host's search path.
fn is_there(job: &Job<'_>) -> bool {
    let name = format!("{PLUGIN}{}", std::env::consts::EXE_SUFFIX);
    let folders = job.cx.env("PATH").unwrap_or_default();
    std::env::split_paths(folders).any(|folder| folder.join(&name).is_file())
}

/// Asks for the session until the agent in the instance has reported.
async fn start(job: &Job<'_>, instance: &str, parameters: &Json) -> Result<Json> {
    let (began, mut pause) = (tokio::time::Instant::now(), Duration::from_secs(1));
    loop {
        match job.ec2.session().json(Service::SSM, "StartSession", parameters).await {
            Ok(answer) => return Ok(answer),
            Err(e) if e.code == "TargetNotConnected" && began.elapsed() < AGENT => {
                job.cx.sleep(pause).await?
            }
            Err(e) => return Err(Error::from(e).context(format!("Error starting the session to {instance}"))),
        }
        pause = (pause * 2).min(Duration::from_secs(10));
    }
}

/// Ends a session. It would end by itself when the instance does.
pub(in crate::amazon) async fn release(ec2: &Ec2, id: &str) -> Result<()> {
    let ended = ec2.session().json(Service::SSM, "TerminateSession", &json!({ "SessionId": id })).await;
    match ended {
        Err(e) if e.code != "DoesNotExistException" => Err(e.into()),
        _ => Ok(()),
    }
}
