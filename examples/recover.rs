//! A run that is killed in the middle, and what it leaves: written down in its ledger, released by a later process.
//!
//! The run is a process of its own, this program with an argument.
//!
//! `cargo run --example recover`
#![expect(clippy::print_stdout, reason = "it is a program for a terminal")]

use std::io::{BufRead, BufReader};
use std::path::Path;
use std::process::{Command, Stdio};

use packer_core::{Build, Engine, Event, EventKind, LedgerFolder, Pipeline, Registry};
use packer_provisioners::Sleep;
use rented::Rented;

mod rented;

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
