//! What the instance may do: an instance profile of IAM, given, or made for the build with a role of its own.

use std::time::Duration;

use aws_sdk_ec2::Client;
use aws_sdk_ec2::types::{IamInstanceProfileSpecification, InstanceType, Tag};
use packer_core::aws::ec2::Ec2;
use packer_core::aws::{Service, ServiceError, Xml};
use packer_core::{Context, Error, Resource, Result};
use serde_json::{Value as Json, json};
use tokio::time::Instant;

use super::source::Source;
use crate::amazon::config::policy::PolicyDocument;
use crate::amazon::job::{Job, rendered};
use crate::amazon::resources::{PROFILE, ROLE};

/// How long EC2 may not know a new profile.
const SPREADING: Duration = Duration::from_secs(120);

/// How often a call is made again where IAM does not know yet what it is about, or still counts what is gone.
const TRIES: u32 = 8;

/// The name of the instance's profile.
pub(in crate::amazon) async fn find_or_make(job: &Job<'_>, source: &Source) -> Result<Option<String>> {
    let given = &job.run.iam_instance_profile;
    if !given.is_empty() {
        if !job.run.skip_profile_validation {
            let found = ask(&job.ec2, "GetInstanceProfile", &[("InstanceProfileName", given)]).await;
            found.map_err(|e| Error::from(e).context("Couldn't find specified instance profile"))?;
        }
        return Ok(Some(given.clone()));
    }
    match &job.run.temporary_iam_instance_profile_policy_document {
        Some(policy) => Box::pin(make(job, source, policy)).await.map(Some),
        None => Ok(None),
    }
}

/// Makes a profile with a role that has the policy. All three are called the same.
async fn make(job: &Job<'_>, source: &Source, policy: &PolicyDocument) -> Result<String> {
    let cx = job.cx;
    let name = format!("packer-{}", uuid::Uuid::new_v4());
    let tags = tag_parameters(&rendered(cx, &job.run.all_run_tags(), &source.facts)?);
    let with_tags = |parameters: &[(&str, &str)]| {
        let mut all = owned(parameters);
        all.extend(tags.clone());
        all
    };

    cx.say(format!("Creating temporary instance profile for this instance: {name}"));
    let profile = with_tags(&[("InstanceProfileName", &name)]);
    create(job, PROFILE, &name, "CreateInstanceProfile", &profile).await?;

    cx.say(format!("Creating temporary role for this instance: {name}"));
    let role = with_tags(&[
        ("RoleName", &name),
        ("Description", "Temporary role for Packer"),
        ("AssumeRolePolicyDocument", &trust().to_string()),
    ]);
    create(job, ROLE, &name, "CreateRole", &role).await?;

    cx.say(format!("Attaching policy to the temporary role: {name}"));
    let document = document(policy).to_string();
    let put = [("RoleName", name.as_str()), ("PolicyName", &name), ("PolicyDocument", &document)];
    once_known(job, "PutRolePolicy", &put).await?;
    let attach = [("InstanceProfileName", name.as_str()), ("RoleName", &name)];
    match once_known(job, "AddRoleToInstanceProfile", &attach).await {
        // By an earlier try whose answer was lost: a profile has one role at most, and nobody else knows this one.
        Err(e) if e.code == "LimitExceeded" && has_role(&job.ec2, &name).await? => {}
        other => drop(other?),
    }
    spread(job, source, &name).await?;
    Ok(name)
}

/// Makes one thing. That there is one of its name says that the answer to an earlier try was lost: nobody else knows the name.
async fn create(
    job: &Job<'_>,
    kind: &str,
    name: &str,
    action: &'static str,
    parameters: &[(String, String)],
) -> Result<()> {
    let create = async {
        match job.ec2.session().query(Service::IAM, action, parameters).await {
            Err(e) if e.code != "EntityAlreadyExists" => Err(e.into()),
            _ => Ok(()),
        }
    };
    job.cx.own(job.resource(kind, name, &job.ec2, json!({})), create).await
}

/// Makes a call about something that was just made.
async fn once_known(
    job: &Job<'_>,
    action: &'static str,
    parameters: &[(&str, &str)],
) -> Result<Xml, ServiceError> {
    let mut pause = Duration::from_millis(200);
    for _ in 1..TRIES {
        match ask(&job.ec2, action, parameters).await {
            Err(e) if is_missing(&e) => tokio::time::sleep(pause).await,
            other => return other,
        }
        pause *= 2;
    }
    ask(&job.ec2, action, parameters).await
}

/// Waits until EC2 knows the profile.
async fn spread(job: &Job<'_>, source: &Source, name: &str) -> Result<()> {
    job.cx.say("Waiting for the change to propagate because of eventual consistency...");
    let (began, mut pause) = (Instant::now(), Duration::from_millis(500));
    let profile = IamInstanceProfileSpecification::builder().name(name).build();
    // Nothing is started by a call that is only asked whether it would do.
    let call = |api: &Client| {
        let call = api.run_instances().dry_run(true).min_count(1).max_count(1).image_id(&source.id);
        call.instance_type(InstanceType::T3Nano).iam_instance_profile(profile.clone()).send()
    };
    loop {
        let asked = job.cx.until_cancelled(async { Ok(job.ec2.ask("RunInstances", call).await) }).await?;
        match asked {
            Err(e) if e.message.contains("Invalid IAM Instance Profile") && began.elapsed() < SPREADING => {}
            // What else may be wrong with the instance is seen when it is started.
            _ => return Ok(()),
        }
        job.cx.sleep(pause).await?;
        pause = (pause * 2).min(Duration::from_secs(5));
    }
}

/// Destroys a profile or a role.
pub(in crate::amazon) async fn release(cx: &Context, ec2: &Ec2, resource: &Resource) -> Result<()> {
    let (name, is_role) = (resource.name.as_str(), resource.kind == ROLE);
    let released =
        if is_role { release_role(cx, ec2, name).await } else { release_profile(cx, ec2, name).await };
    released.map_err(|e| {
        let what = if is_role { "role" } else { "instance profile" };
        cx.say_error(format!("Error {e}. Please delete the {what} manually: {name}"));
        Error::from(e)
    })
}

async fn release_profile(cx: &Context, ec2: &Ec2, name: &str) -> Result<(), ServiceError> {
    let profile = [("InstanceProfileName", name)];
    if exists(ask(ec2, "GetInstanceProfile", &profile).await)? {
        cx.say("Deleting temporary instance profile...");
        delete(ec2, "DeleteInstanceProfile", &profile).await?;
    }
    Ok(())
}

/// Takes a role out of its profile, its policy out of it, and then itself away: as far as there are any.
async fn release_role(cx: &Context, ec2: &Ec2, name: &str) -> Result<(), ServiceError> {
    if has_role(ec2, name).await? {
        cx.say("Detaching temporary role from instance profile...");
        let detach = [("InstanceProfileName", name), ("RoleName", name)];
        delete(ec2, "RemoveRoleFromInstanceProfile", &detach).await?;
    }
    let policy = [("PolicyName", name), ("RoleName", name)];
    if exists(ask(ec2, "GetRolePolicy", &policy).await)? {
        cx.say("Removing policy from temporary role...");
        delete(ec2, "DeleteRolePolicy", &policy).await?;
    }
    let role = [("RoleName", name)];
    if exists(ask(ec2, "GetRole", &role).await)? {
        cx.say("Deleting temporary role...");
        delete(ec2, "DeleteRole", &role).await?;
    }
    Ok(())
}

/// Deletes something, again where IAM still counts what was in it.
async fn delete(ec2: &Ec2, action: &'static str, parameters: &[(&str, &str)]) -> Result<(), ServiceError> {
    let mut pause = Duration::from_millis(200);
    for number in 1.. {
        match ask(ec2, action, parameters).await {
            Err(e) if e.code == "DeleteConflict" && number < TRIES => tokio::time::sleep(pause).await,
            Err(e) if !is_missing(&e) => return Err(e),
            _ => break,
        }
        pause *= 2;
    }
    Ok(())
}

/// Whether the profile has its role.
async fn has_role(ec2: &Ec2, name: &str) -> Result<bool, ServiceError> {
    match ask(ec2, "GetInstanceProfile", &[("InstanceProfileName", name)]).await {
        Err(e) if is_missing(&e) => Ok(false),
        Err(e) => Err(e),
        Ok(answer) => {
            let roles = answer.at("GetInstanceProfileResult.InstanceProfile.Roles");
            Ok(roles.is_some_and(|roles| roles.children.iter().any(|role| role.text_at("RoleName") == name)))
        }
    }
}

fn exists(asked: Result<Xml, ServiceError>) -> Result<bool, ServiceError> {
    match asked {
        Ok(_) => Ok(true),
        Err(e) if is_missing(&e) => Ok(false),
        Err(e) => Err(e),
    }
}

fn is_missing(error: &ServiceError) -> bool {
    error.code == "NoSuchEntity"
}

async fn ask(ec2: &Ec2, action: &'static str, parameters: &[(&str, &str)]) -> Result<Xml, ServiceError> {
    ec2.session().query(Service::IAM, action, &owned(parameters)).await
}

fn owned(parameters: &[(&str, &str)]) -> Vec<(String, String)> {
    parameters.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect()
}

fn tag_parameters(tags: &[Tag]) -> Vec<(String, String)> {
    let parameters = |(at, tag): (usize, &Tag)| {
        let text = |text: Option<&str>| text.unwrap_or_default().to_owned();
        let name = |part: &str| format!("Tags.member.{}.{part}", at + 1);
        [(name("Key"), text(tag.key())), (name("Value"), text(tag.value()))]
    };
    tags.iter().enumerate().flat_map(parameters).collect()
}

/// Who may take the role on: instances.
fn trust() -> Json {
    json!({
        "Version": "2012-10-17",
        "Statement": [{
            "Effect": "Allow",
            "Principal": { "Service": "ec2.amazonaws.com" },
            "Action": "sts:AssumeRole",
        }],
    })
}

/// The policy in AWS's form. What the template does not say is not in it.
fn document(policy: &PolicyDocument) -> Json {
    let statement = |statement: &crate::amazon::Statement| json!({ "Effect": statement.effect, "Action": statement.action, "Resource": statement.resource });
    let statements: Vec<Json> = policy.statement.iter().map(statement).collect();
    match policy.version.as_str() {
        "" => json!({ "Statement": statements }),
        version => json!({ "Version": version, "Statement": statements }),
    }
}

#[cfg(test)]
mod tests {
    use aws_sdk_ec2::types::Tag;

    use super::{document, tag_parameters};
    use crate::amazon::{PolicyDocument, Statement};

    #[test]
    fn a_policy_is_sent_as_it_was_given() {
        let statement = Statement {
            effect: "Allow".into(),
            action: vec!["s3:GetObject".into(), "logs:*".into()],
            resource: vec!["*".into()],
        };
        let policy = PolicyDocument { version: String::new(), statement: vec![statement] };
        let text =
            r#"{"Statement":[{"Effect":"Allow","Action":["s3:GetObject","logs:*"],"Resource":["*"]}]}"#;
        assert_eq!(document(&policy).to_string(), text);
        let policy = PolicyDocument { version: "2012-10-17".into(), ..policy };
        assert!(document(&policy).to_string().starts_with(r#"{"Version":"2012-10-17","#));
    }

    #[test]
    fn tags_are_numbered() {
        let tag = |key: &str, value: &str| Tag::builder().key(key).value(value).build();
        let all = tag_parameters(&[tag("a", "1"), tag("b", "2")]);
        let shown: Vec<String> = all.iter().map(|(name, value)| format!("{name}={value}")).collect();
        let wanted =
            ["Tags.member.1.Key=a", "Tags.member.1.Value=1", "Tags.member.2.Key=b", "Tags.member.2.Value=2"];
        assert_eq!(shown, wanted);
    }
}
