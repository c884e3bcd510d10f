//! The null builder over SSH to a real server.
#![cfg(all(feature = "null", feature = "ssh", unix))]

use std::time::Duration;

use packer_builders::Null;
use packer_core::communicator::Unreachable;
use packer_core::testing::sshd::Sshd;
use packer_core::testing::{FakeProvisioner, Recorder, builder};
use packer_core::{Build, Engine, Host, Pipeline};

#[tokio::test(flavor = "multi_thread")]
async fn null_enters_the_machine() {
    let Some(server) = Sshd::start() else { return };
    let recorder = Recorder::new();
    let build =
        Build::new("a", Null::from(server.config())).provision(FakeProvisioner::run("echo $SSH_CONNECTION"));
    let report = Engine::new().events(recorder.clone()).run(Pipeline::of([build])).await.unwrap();
    assert!(report.succeeded(), "{:?}", report.builds);
    let lines = recorder.lines_of("a");
    assert!(lines.iter().any(|line| line.ends_with(&format!("127.0.0.1 {}", server.port()))), "{lines:?}");
    builder::suite(|| Null::from(server.config()), &Host::new()).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn null_gives_up_where_nobody_listens() {
    let Some(server) = Sshd::start() else { return };
    let mut config = server.config().port(1);
    config.ssh_timeout = Duration::from_millis(300).into();
    let report = Engine::new().run(Pipeline::of([Build::new("a", Null::from(config))])).await.unwrap();
    let error = report.builds[0].error.as_ref().unwrap();
    let text = error.to_string();
    let last = "Timeout waiting for SSH. The last attempt: dial 127.0.0.1:1: connection refused. Check ";
    assert!(text.starts_with(last), "{text}");
    assert_eq!(error.why_unreachable(), Some(Unreachable::Refused));
}
