//! Builds of images at a small AWS: they end well, share their looks, and leave nothing behind wherever they are killed.
#![expect(clippy::unwrap_used, clippy::expect_used, reason = "a test stops at the first surprise")]
#![cfg(all(unix, feature = "amazon"))]

mod server;

use std::collections::BTreeSet;
use std::path::Path;
use std::process::{Command, Output, Stdio};
use std::sync::atomic::{AtomicUsize, Ordering};

use server::{Account, Aws, Kill, SOURCE};

const HERE: &str = "us-east-1";
const THERE: &str = "eu-west-1";

/// What all sources say alike.
fn common(aws: &Aws, name: &str) -> String {
    format!(
        "region = \"{HERE}\"\n source_ami = \"{SOURCE}\"\n instance_type = \"t3.micro\"\n ami_name = \"{name}\"\n\
         ssh_username = \"{}\"\n ssh_host = \"127.0.0.1\"\n ssh_port = {}\n ssh_host_key_checking = \"none\"\n",
        aws.sshd.user(),
        aws.sshd.port()
    )
}

fn build_block(source: &str) -> String {
    format!(
        "build {{\n sources = [{source}]\n provisioner \"shell\" {{\n inline = [\"echo provisioned\"]\n }}\n\
         post-processor \"manifest\" {{}}\n }}\n"
    )
}

fn ebs(aws: &Aws) -> String {
    let own = format!("ami_regions = [\"{THERE}\"]\n tags = {{ Name = \"made\" }}\n");
    let source = format!("source \"amazon-ebs\" \"a\" {{\n {}{own}}}\n", common(aws, "made"));
    source + &build_block("\"source.amazon-ebs.a\"")
}

fn surrogate(aws: &Aws) -> String {
    let own = "ami_virtualization_type = \"hvm\"\n launch_block_device_mappings {\n device_name = \"/dev/xvdf\"\n volume_size = 5\n\
               volume_type = \"gp3\"\n delete_on_termination = true\n }\n ami_root_device {\n source_device_name = \"/dev/xvdf\"\n\
               device_name = \"/dev/xvda\"\n delete_on_termination = true\n volume_size = 6\n volume_type = \"gp3\"\n }\n";
    let source = format!("source \"amazon-ebssurrogate\" \"a\" {{\n {}{own}}}\n", common(aws, "made"));
    source + &build_block("\"source.amazon-ebssurrogate.a\"")
}

/// The program in a folder of its own, with an account.
fn packer(account: &Account, folder: &Path, words: &[&str]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_packer"));
    command.args(words).current_dir(folder).env_clear();
    command.env("PATH", std::env::var_os("PATH").unwrap_or_default());
    command.env("HOME", folder).env("TMPDIR", folder).env("PACKER_CACHE_DIR", folder.join("cache"));
    command.env("AWS_ENDPOINT_URL", account.url()).env("AWS_EC2_METADATA_DISABLED", "true");
    command.env("AWS_ACCESS_KEY_ID", "AKIAEXAMPLE").env("AWS_SECRET_ACCESS_KEY", "not-a-secret");
    command.env("AWS_POLL_DELAY_SECONDS", "1");
    command
}

fn folder(template: &str) -> tempfile::TempDir {
    let folder = tempfile::tempdir().unwrap();
    std::fs::write(folder.path().join("t.pkr.hcl"), template).unwrap();
    folder
}

fn text(output: &Output) -> String {
    String::from_utf8_lossy(&output.stdout).into_owned() + &String::from_utf8_lossy(&output.stderr)
}

/// What is in both regions.
fn everything(account: &Account) -> BTreeSet<String> {
    let mut all = account.inventory(HERE);
    all.extend(account.inventory(THERE).into_iter().map(|thing| format!("{thing} there")));
    all
}

/// What is somebody else's, and has to stay: an instance that runs, an image of it, a key pair.
fn others(account: &Account) {
    let answer = account.ask(
        HERE,
        &format!("Action=RunInstances&ImageId={SOURCE}&MinCount=1&MaxCount=1&InstanceType=t3.micro"),
    );
    let id = answer.split_once("<instanceId>").expect("an instance").1.split('<').next().unwrap().to_owned();
    account.ask(HERE, &format!("Action=CreateImage&InstanceId={id}&Name=not-ours"));
    account.ask(HERE, "Action=CreateKeyPair&KeyName=not-ours");
}

/// Builds, is killed, recovers; at which call that was. `None` where the build ended before.
fn killed(aws: &Aws, template: &str, kill: Kill) -> Option<String> {
    let (account, folder) = (aws.account(), folder(template));
    others(&account);
    let before = everything(&account);
    let mut build = packer(&account, folder.path(), &["build", "."]);
    let log = std::fs::File::create(folder.path().join("log")).unwrap();
    build.stdout(log.try_clone().unwrap()).stderr(log).stdin(Stdio::null());
    let mut child = build.spawn().unwrap();
    account.kill(child.id(), kill);
    let status = child.wait().unwrap();
    let Some(call) = account.killed_at() else {
        assert!(status.success(), "{}", std::fs::read_to_string(folder.path().join("log")).unwrap());
        return None;
    };
    let recovered = packer(&account, folder.path(), &["recover"]).output().unwrap();
    let told = text(&recovered);
    assert!(recovered.status.success(), "{kill:?} {call}: {told}");
    let mut after = everything(&account);
    if ["Terminate", "Delete"].iter().any(|ends| call.starts_with(ends)) {
        // The artifact was complete.
        after.retain(|thing| {
            before.contains(thing) || !(thing.starts_with("image") || thing.starts_with("snapshot"))
        });
    }
    let (more, less): (Vec<_>, Vec<_>) =
        (after.difference(&before).collect(), before.difference(&after).collect());
    assert!(more.is_empty() && less.is_empty(), "{kill:?} {call}: left {more:?}, gone {less:?}\n{told}");
    Some(call)
}

/// Kills at each call, and says at which.
fn killed_everywhere(template: fn(&Aws) -> String) -> BTreeSet<String> {
    let Some(aws) = Aws::start() else { return BTreeSet::new() };
    let template = template(&aws);
    let next = AtomicUsize::new(0);
    let one = || {
        let mut calls = BTreeSet::new();
        loop {
            let number = next.fetch_add(1, Ordering::Relaxed);
            let kill = Kill { at: number / 2 + 1, after: number % 2 == 1 };
            match killed(&aws, &template, kill) {
                Some(call) => calls.insert(call),
                None => return calls,
            };
        }
    };
    std::thread::scope(|scope| {
        let threads: Vec<_> = (0..3).map(|_| scope.spawn(one)).collect();
        threads.into_iter().flat_map(|thread| thread.join().expect("no failure")).collect()
    })
}

#[test]
fn a_build_that_is_killed_at_any_call_is_recovered() {
    let calls = killed_everywhere(ebs);
    for call in [
        "CreateKeyPair",
        "CreateSecurityGroup",
        "RunInstances",
        "CreateImage",
        "CopyImage",
        "TerminateInstances",
    ] {
        assert!(calls.is_empty() || calls.contains(call), "{call} is not among {calls:?}");
    }
}

#[test]
fn a_surrogate_that_is_killed_at_any_call_is_recovered() {
    let calls = killed_everywhere(surrogate);
    for call in ["CreateSnapshot", "RegisterImage"] {
        assert!(calls.is_empty() || calls.contains(call), "{call} is not among {calls:?}");
    }
}

#[test]
fn twenty_builds_make_twenty_images_and_share_their_looks() {
    const BUILDS: usize = 20;
    let Some(aws) = Aws::start() else { return };
    let sources = (0..BUILDS).map(|number| {
        format!("source \"amazon-ebs\" \"s{number}\" {{\n {}}}\n", common(&aws, &format!("made-{number}")))
    });
    let names: Vec<String> = (0..BUILDS).map(|number| format!("\"source.amazon-ebs.s{number}\"")).collect();
    let template = sources.collect::<String>() + &build_block(&names.join(", "));
    let (account, folder) = (aws.account(), folder(&template));
    let built = packer(&account, folder.path(), &["build", "."]).output().unwrap();
    assert!(built.status.success(), "{}", text(&built));
    let left = everything(&account);
    assert_eq!(left.iter().filter(|thing| thing.starts_with("image")).count(), BUILDS);
    assert!(
        !left.iter().any(|thing| thing.starts_with("instance") || thing.starts_with("key pair")),
        "{left:?}"
    );
    // Each build waits three times for its instance (to run, to stop, to end), and looks for its address.
    let looks = account.count("DescribeInstances");
    assert!(looks < 3 * BUILDS, "{looks} looks at instances");
}

#[test]
fn a_wrong_key_is_an_error_of_the_users() {
    let Some(aws) = Aws::start() else { return };
    let (account, folder) = (aws.account(), folder(&ebs(&aws)));
    let mut command = packer(&account, folder.path(), &["build", "."]);
    command.env_remove("AWS_ACCESS_KEY_ID").env_remove("AWS_SECRET_ACCESS_KEY");
    let built = command.output().unwrap();
    assert!(!built.status.success());
    assert!(text(&built).contains("No valid credential sources found"), "{}", text(&built));
    assert_eq!(account.count("RunInstances"), 0);
}
