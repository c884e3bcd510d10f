//! Snapshots of volumes.

use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use aws_sdk_ec2::Client;
use aws_sdk_ec2::error::SdkError;
use aws_sdk_ec2::operation::create_snapshot::CreateSnapshotOutput;
use aws_sdk_ec2::types::{ResourceType, SnapshotState, Tag};
use packer_core::aws::ec2::Seen;
use packer_core::{Error, Resource, Result};
use serde_json::json;

use crate::amazon::job::{Job, specification};
use crate::amazon::resources;

/// How long a snapshot may take.
const COPYING: Duration = Duration::from_secs(30 * 60);

/// A snapshot that was asked for.
#[derive(Debug, Clone)]
pub(in crate::amazon) struct Snapshot {
    pub(in crate::amazon) id: String,
    pub(in crate::amazon) volume: String,
    pub(in crate::amazon) resource: Resource,
}

/// The description of a snapshot: the template's, else one with the time.
pub(in crate::amazon) fn description(given: &str) -> String {
    let now = jiff::Timestamp::now();
    if given.is_empty() {
        format!("Packer: {} +0000 UTC", now.strftime("%Y-%m-%d %H:%M:%S.%N"))
    } else {
        given.to_owned()
    }
}

/// Asks for a snapshot of a volume that is the build's own.
pub(in crate::amazon) async fn create(
    job: &Job<'_>,
    volume: &str,
    description: &str,
    tags: &[Tag],
) -> Result<Snapshot> {
    let details = json!({ "description": description });
    let mut resource = job.resource(resources::SNAPSHOT, volume, &job.ec2, details);
    let tags = specification(ResourceType::Snapshot, tags);
    let (resource_ref, again) = (&resource, AtomicBool::new(false));
    let call = |api: &Client| {
        let call = api.create_snapshot().volume_id(volume).description(description);
        let call = call.set_tag_specifications(tags.clone().map(|tags| vec![tags]));
        // The call knows no client token: where the answer to an earlier try was lost the snapshot may be there.
        let look = again.swap(true, Ordering::Relaxed);
        async move {
            if look {
                let found =
                    resources::snapshot_ids(&job.ec2, resource_ref).await.map_err(SdkError::timeout_error)?;
                if let Some(id) = found.into_iter().next() {
                    return Ok(CreateSnapshotOutput::builder().snapshot_id(id).build());
                }
            }
            call.send().await
        }
    };
    let create = async { Ok(job.ec2.ask("CreateSnapshot", call).await?.snapshot_id.unwrap_or_default()) };
    let id = job.cx.own(resource.clone(), create).await?;
    resources::known(job.cx, &mut resource, &id)?;
    Ok(Snapshot { id, volume: volume.to_owned(), resource })
}

/// Waits until a snapshot is complete.
pub(in crate::amazon) async fn completed(job: &Job<'_>, id: &str) -> Result<()> {
    let late = "exceeded max wait time for SnapshotCompleted waiter";
    let look = || async {
        let Some(snapshot) = job.ec2.snapshot(id).await? else { return Ok(Seen::Unknown) };
        Ok(match snapshot.state() {
            Some(SnapshotState::Completed) => Seen::Done(()),
            Some(SnapshotState::Error) => {
                let why = snapshot.state_message().map(|why| format!(": {why}")).unwrap_or_default();
                Seen::Never(Error::provider(format!("waiter state transitioned to Failure{why}")))
            }
            state => {
                let progress = snapshot.progress().unwrap_or_default();
                Seen::Underway(
                    format!("{} {progress}", state.map_or("", SnapshotState::as_str)).trim().to_owned(),
                )
            }
        })
    };
    job.pace(COPYING).wait(job.cx, &format!("snapshot {id}"), late, look).await
}

/// Takes the snapshots of a build away that failed, and says so.
pub(in crate::amazon) async fn undo(job: &Job<'_>, snapshots: &[Snapshot]) {
    job.cx.say("Removing snapshots since we cancelled or halted...");
    for snapshot in snapshots {
        let gone = resources::delete_snapshot(&job.ec2, &snapshot.id).await;
        // What is not undone here is left to the end of the build, which tries again and tells.
        if gone.and_then(|()| job.cx.released(&snapshot.resource)).is_err() {
            continue;
        }
    }
}
