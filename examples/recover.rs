//! A run that is killed in the middle, and what it leaves: written down in its ledger, released by a later process.
//!
//! The run is a process of its own, this program with an argument.
//!
//! `cargo run --example recover`
#![expect(clippy::print_stdout, reason = "it is a program for a terminal")]

use std::io::{BufRead, BufReader};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::Arc;

use packer_core::{
    Artifact, Build, Builder, Communicator, Context, Diagnostics, Engine, Error, Event, EventKind, Facts,
    LedgerFolder, Machine, NoCommunicator, Pipeline, PrepareContext, Prepared, Registry, Resource, Result,
    async_trait,
};
use packer_provisioners::Sleep;
use schemars::JsonSchema;
use serde::Deserialize;

/// A builder whose machine is a file, which stands for something that costs money as long as it is there.
#[derive(Default, Deserialize, JsonSchema)]
#[serde(default)]
struct Rented {
    /// Where machines are.
    folder: PathBuf,
}

#[async_trait]
impl Builder for Rented {
    async fn prepare(&self, _: &PrepareContext) -> Result<Prepared, Diagnostics> {
        Ok(Prepared::new())
    }

    async fn launch(&self, cx: &Context) -> Result<Box<dyn Machine>> {
        let name = format!("machine-{}", cx.run_id());
        let path = self.folder.join(&name);
        // All that a later process needs to find it again; no secrets.
        let machine =
            Resource::new("machine", &name).with_config(serde_json::json!({ "folder": self.folder }));
        cx.own(machine, async { std::fs::write(&path, "").map_err(|e| Error::io("create", &path, e)) })
            .await?;
        Ok(Box::new(Running(Facts::new().id(&name))))
    }

    async fn release(&self, _: &Context, resource: &Resource) -> Result<()> {
        let path = self.folder.join(&resource.name);
        match std::fs::remove_file(&path) {
            Err(e) if e.kind() != std::io::ErrorKind::NotFound => Err(Error::io("remove", &path, e)),
            _ => Ok(()),
        }
    }
}

struct Running(Facts);

#[async_trait]
impl Machine for Running {
    fn communicator(&self) -> Arc<dyn Communicator> {
        Arc::new(NoCommunicator::new())
    }

    fn facts(&self) -> &Facts {
        &self.0
    }

    async fn capture(&self, _: &Context) -> Result<Artifact> {
        Ok(Artifact::new("example.rented", ""))
    }
}

#[tokio::main]
async fn main() -> Result<(), Box<dyn std::error::Error>> {
    if let Some(folder) = std::env::args_os().nth(1) {
        return build(Path::new(&folder)).await;
    }
    let folder = std::env::temp_dir().join(format!("packer-recover-{}", std::process::id()));
    std::fs::create_dir_all(folder.join("machines"))?;

    // The run says when its machine is up; then it is killed.
    let mut run = Command::new(std::env::current_exe()?).arg(&folder).stdout(Stdio::piped()).spawn()?;
    let mut said = String::new();
    if let Some(stdout) = run.stdout.take() {
        BufReader::new(stdout).read_line(&mut said)?;
    }
    run.kill()?;
    run.wait()?;
    println!("A run was killed. It has left {}.", machines(&folder)?);

    let mut registry = Registry::new();
    registry.builder::<Rented>("rented");
    // Ledgers of runs that go on are left alone.
    let recovery = Engine::new().recover_all(&ledgers(&folder), &registry).await?;
    for resource in recovery.ledgers.iter().flat_map(|ledger| &ledger.report.released) {
        println!("Released the {} of the build {}", resource.kind, resource.build);
    }
    println!("There are {} now.", machines(&folder)?);
    if !recovery.all_gone() {
        return Err("something is left".into());
    }
    std::fs::remove_dir_all(&folder)?;
    Ok(())
}

/// The run that will be killed.
async fn build(folder: &Path) -> Result<(), Box<dyn std::error::Error>> {
    let engine = Engine::new().ledger_folder(ledgers(folder)).events(|event: &Event| {
        if let EventKind::ProvisionerStarted { .. } = event.kind {
            println!("up");
        }
    });
    let rented = Rented { folder: folder.join("machines") };
    engine.run(Pipeline::of([Build::new("web", rented).provision(Sleep::seconds(600))])).await?;
    Ok(())
}

/// Where the ledgers of runs are, one file each.
fn ledgers(folder: &Path) -> LedgerFolder {
    LedgerFolder::at(folder.join("ledger"))
}

fn machines(folder: &Path) -> std::io::Result<String> {
    Ok(format!("{} machines", std::fs::read_dir(folder.join("machines"))?.count()))
}
