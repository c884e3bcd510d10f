//! The task by which EC2 makes an image of a file in S3.

use std::time::Duration;

use aws_sdk_ec2::Client;
use aws_sdk_ec2::types::{BootModeValues, ImageDiskContainer, ImportImageTask, UserBucket};
use packer_core::aws::ec2::{Ec2, Pace, Refused, Seen};
use packer_core::{Context, Error, Result};
use serde_json::Value as Json;

/// How long an import may take.
const IMPORTING: Duration = Duration::from_secs(60 * 60);

/// For how long EC2 may not know a role or file that was made just before.
const LAG: Duration = Duration::from_secs(60);

/// Begins an import as the details of its resource say, which hold all that the call needs: the same token and the same details are
/// the same task, whose id is the result.
pub(super) async fn start(ec2: &Ec2, token: &str, details: &Json) -> Result<String, Refused> {
    let text = |name: &str| details[name].as_str().filter(|text| !text.is_empty()).map(str::to_owned);
    let call = |api: &Client| {
        let place = UserBucket::builder().set_s3_bucket(text("bucket")).set_s3_key(text("key")).build();
        let disk = ImageDiskContainer::builder().set_format(text("format")).user_bucket(place).build();
        api.import_image()
            .client_token(token)
            .disk_containers(disk)
            .set_architecture(text("architecture"))
            .set_boot_mode(text("boot_mode").as_deref().map(BootModeValues::from))
            .set_encrypted(details["encrypted"].as_bool())
            .set_kms_key_id(text("kms_key"))
            .set_license_type(text("license_type"))
            .set_platform(text("platform"))
            .set_role_name(text("role_name"))
            .send()
    };
    let (began, mut pause) = (tokio::time::Instant::now(), Duration::from_millis(500));
    loop {
        match ec2.ask("ImportImage", call).await {
            Err(e) if e.message.contains("does not exist") && began.elapsed() < LAG => {}
            answer => return Ok(answer?.import_task_id.unwrap_or_default()),
        }
        tokio::time::sleep(pause).await;
        pause = (pause * 2).min(Duration::from_secs(10));
    }
}

/// What a task is at; `None` where EC2 does not know it.
async fn look(ec2: &Ec2, id: &str) -> Result<Option<ImportImageTask>, Refused> {
    let call = |api: &Client| api.describe_import_image_tasks().import_task_ids(id).send();
    match ec2.ask("DescribeImportImageTasks", call).await {
        Ok(answer) => Ok(answer.import_image_tasks.unwrap_or_default().into_iter().next()),
        Err(e) if e.is_not_found() => Ok(None),
        Err(e) => Err(e),
    }
}

/// Waits for the image of a task; its id.
pub(super) async fn finished(cx: &Context, ec2: &Ec2, id: &str) -> Result<String> {
    let failed = |message: Option<&str>, why: &str| {
        let message = message.unwrap_or_default();
        format!("Import task {id} failed with status message: {message}, error: {why}")
    };
    let watch = || async {
        let Some(task) = look(ec2, id).await? else { return Ok(Seen::Unknown) };
        Ok(match task.status().unwrap_or_default() {
            "completed" => Seen::Done(task.image_id.unwrap_or_default()),
            "deleted" | "deleting" => {
                Seen::Never(Error::provider(failed(task.status_message(), "import task was deleted")))
            }
            _ => Seen::Underway(state(&task)),
        })
    };
    let late = failed(None, "exceeded max wait time for ImportImageComplete waiter");
    pace(ec2, IMPORTING).wait(cx, &format!("import task {id}"), &late, watch).await
}

/// Ends a task, and waits until it is over; the id of the image where it has made one.
pub(super) async fn end(cx: &Context, ec2: &Ec2, id: &str) -> Result<Option<String>> {
    let is_over = |task: &ImportImageTask| matches!(task.status(), Some("completed" | "deleted"));
    let found = look(ec2, id).await?;
    let Some(task) = found else { return Ok(None) };
    if is_over(&task) {
        return Ok(task.image_id);
    }
    let call = |api: &Client| {
        api.cancel_import_task().import_task_id(id).cancel_reason("the build was given up").send()
    };
    // Where it cannot be cancelled it ends by itself.
    let cancelled = ec2.ask("CancelImportTask", call).await;
    let watch = || async {
        Ok(match look(ec2, id).await? {
            None => Seen::Done(None),
            Some(task) if is_over(&task) => Seen::Done(task.image_id),
            Some(task) => Seen::Underway(state(&task)),
        })
    };
    let late = format!("import task {id} does not end");
    let ended = pace(ec2, IMPORTING).wait(cx, &format!("the end of import task {id}"), &late, watch).await;
    match (ended, cancelled) {
        (Err(_), Err(refused)) => Err(refused.into()),
        (ended, _) => ended,
    }
}

fn pace(ec2: &Ec2, limit: Duration) -> Pace {
    Pace::new(&ec2.session().polling(), limit)
}

/// A task's state, in words.
fn state(task: &ImportImageTask) -> String {
    let mut words: Vec<String> =
        [task.status(), task.status_message()].into_iter().flatten().map(str::to_owned).collect();
    words.extend(task.progress().map(|percent| format!("{percent} %")));
    words.join(", ")
}
