//! A pipeline composed in code: two builds that run at the same time, each with its steps, and what they made.
//!
//! `cargo run --example pipeline_in_code`
#![expect(clippy::print_stdout, reason = "it is a program for a terminal")]

use packer_builders::{FileBuilder, Null};
use packer_core::event::PackerLines;
use packer_core::{Build, Engine, Pipeline, ProvisionerExt};
use packer_postproc::Manifest;
use packer_provisioners::ShellLocal;

#[tokio::main]
async fn main() -> Result<(), Box<dyn std::error::Error>> {
    let folder = std::env::temp_dir().join("packer-pipeline-in-code");
    let motd = folder.join("motd").display().to_string();

    let welcome = Build::new("welcome", FileBuilder::content(&motd, "welcome\n"))
        .provision(ShellLocal::inline([format!("date >> '{motd}'")]).max_retries(2))
        .post_process(Manifest::to(folder.join("manifest.json").display().to_string()));
    let checks = Build::new("checks", Null::local())
        .provision(ShellLocal::inline(["echo all is well with $(uname -s)"]));

    let engine = Engine::new().events(PackerLines::new(std::io::stderr()).color(true));
    let report = engine.run(Pipeline::of([welcome, checks])).await?;

    // Artifacts are data: they can be kept, sent and loaded again.
    for build in &report.builds {
        println!("{}: {}", build.name, serde_json::to_string_pretty(&build.artifacts)?);
    }
    Ok(())
}
