//! The builder `docker` by the less usual ways: to an engine through TLS or SSH, into a container through SSH.
#![cfg(all(feature = "docker", feature = "ssh", target_os = "linux"))]
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    reason = "tests stop at the first surprise"
)]

use std::path::PathBuf;
use std::sync::Arc;

use packer_builders::Docker;
use packer_core::ledger::Ledger;
use packer_core::testing::Recorder;
use packer_core::testing::dockerd::{Dockerd, IMAGE};
use packer_core::{
    Artifact, Build, Command, CommunicatorExt, Context, Engine, Error, Host, Machine, MemoryLedger, Pipeline,
    Provisioner, Registry, Report, Result, async_trait,
};

mod container_over_ssh;
mod engine_over_ssh;
mod engine_over_tls;

/// Does in a machine what builds do there: runs commands, sends a file and fetches it back.
struct Visit {
    file: PathBuf,
}

impl Visit {
    /// With a file in this folder that is larger than the buffers on the way.
    fn with_file_in(folder: &std::path::Path) -> Self {
        let file = folder.join("sent file");
        std::fs::write(&file, (0..300_000_u32).flat_map(u32::to_le_bytes).collect::<Vec<u8>>()).unwrap();
        Self { file }
    }
}

#[async_trait]
impl Provisioner for Visit {
    async fn provision(&self, cx: &Context, machine: &dyn Machine) -> Result<()> {
        let inside = machine.communicator();
        let status = inside.run(cx, "echo \"connection: $SSH_CONNECTION\"; echo hello > /note").await?;
        assert!(status.success(), "{status:?}");
        let status = inside.run(cx, "exit 3").await?;
        assert_eq!(status.code(), 3);
        inside.upload_file(cx, &self.file, "/sent").await?;
        let (sent, fetched) = (std::fs::read(&self.file).unwrap(), inside.read(cx, "/sent").await?);
        assert!(sent == fetched, "{} bytes came back of {}", fetched.len(), sent.len());
        // Not every way carries the end of the input.
        let mut input = sent.as_slice();
        let mut count = Vec::new();
        let counting = Command::new("wc -c").stdin(&mut input).stdout(&mut count);
        assert!(inside.exec(cx, counting).await?.success());
        assert_eq!(String::from_utf8_lossy(&count).trim(), sent.len().to_string());
        Ok(())
    }
}

/// A runtime of the calling thread's network.
fn block_on<T>(work: impl Future<Output = T>) -> T {
    tokio::runtime::Runtime::new().unwrap().block_on(work)
}

fn base() -> Docker {
    Docker::image(IMAGE).no_pull()
}

fn registry() -> Registry {
    let mut registry = Registry::new();
    packer_builders::register(&mut registry);
    registry
}

/// Builds; nothing may be left in the ledger.
async fn build(host: &Host, docker: Docker) -> (Report, Recorder) {
    let (recorder, ledger) = (Recorder::new(), Arc::new(MemoryLedger::new()));
    let build = Build::new("a", docker).provision(Visit::with_file_in(&host.temp_dir));
    let engine = Engine::new().host(host.clone()).events(recorder.clone()).ledger(ledger.clone());
    let report = engine.run(Pipeline::of([build])).await.unwrap();
    assert!(ledger.outstanding().is_empty(), "left: {:?}", ledger.outstanding());
    (report, recorder)
}

/// The artifact of a build that succeeds, and what was told.
async fn made(host: &Host, docker: Docker) -> (Artifact, Recorder) {
    let (report, recorder) = build(host, docker).await;
    assert!(report.succeeded(), "{:?} {:?}", report.builds[0].error, recorder.lines());
    (report.builds[0].artifacts[0].clone(), recorder)
}

/// The error of a build that fails.
async fn fails(host: &Host, docker: Docker) -> Error {
    let (mut report, _) = build(host, docker).await;
    report.builds.remove(0).error.expect("the build fails")
}

/// What the build left in the image is there; then the image goes.
fn shows_its_work(engine: &Dockerd, image: &str) {
    let script = "cat /note; wc -c < /sent";
    let shown =
        engine.docker(&["run", "--rm", "--network=none", "--entrypoint=/bin/sh", image, "-c", script]);
    assert_eq!(shown, "hello\n1200000");
    engine.docker(&["rmi", image]);
}

/// Neither the engine nor the folder for shared files holds anything new.
fn nothing_is_left(engine: &Dockerd, before: &[String]) {
    assert_eq!(engine.inventory(), before, "what is left in the engine");
    let shared = std::fs::read_dir(engine.path().join("home/.config/packer")).unwrap();
    let left: Vec<_> = shared.map(|entry| entry.unwrap().path()).collect();
    assert!(left.is_empty(), "{left:?}");
}
