//! The SSH communicator against a real OpenSSH server.
#![cfg(all(unix, feature = "ssh", feature = "testing"))]

use std::sync::Arc;
use std::time::{Duration, Instant};

use packer_core::testing::sshd::{SshAgent, Sshd, SystemUser};
use packer_core::testing::{Bench, communicator};
use packer_core::{
    Command, Communicator, CommunicatorConfig, CommunicatorExt, EventKind, ExitStatus, Fault, Globs,
    GoDuration, Host, Target,
};

type Shared = Arc<dyn Communicator>;

async fn enter(bench: &Bench, config: &CommunicatorConfig) -> Shared {
    config.connect(bench.context(), &Target::default()).await.unwrap()
}

async fn refused(bench: &Bench, config: &CommunicatorConfig) -> packer_core::Error {
    match config.connect(bench.context(), &Target::default()).await {
        Err(error) => error,
        Ok(_) => panic!("let in"),
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn passes_the_behaviour_suite() {
    let Some(server) = Sshd::start() else { return };
    let bench = Bench::new();
    let machine = enter(&bench, &server.config()).await;
    communicator::suite(machine.as_ref(), bench.context()).await;
    assert_eq!(
        bench.recorder().lines()[..3],
        [
            "Using SSH communicator to connect: 127.0.0.1",
            "Waiting for SSH to become available...",
            "Connected to SSH!"
        ]
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn passes_the_behaviour_suite_without_sftp() {
    let Some(server) = Sshd::with(&[]) else { return };
    let bench = Bench::new();
    let machine = enter(&bench, &server.config()).await;
    communicator::suite(machine.as_ref(), bench.context()).await;
}
