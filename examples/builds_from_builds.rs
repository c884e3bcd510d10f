//! Builds made from the artifacts of others: a base, two variants of it at the same time, and an index of both.
//!
//! `cargo run --example builds_from_builds`
#![expect(clippy::print_stdout, reason = "it is a program for a terminal")]

use std::path::Path;

use packer_builders::FileBuilder;
use packer_core::event::PackerLines;
use packer_core::{Build, Diagnostic, Diagnostics, Engine, Pipeline, RunValues};
use packer_provisioners::ShellLocal;

#[tokio::main]
async fn main() -> Result<(), Box<dyn std::error::Error>> {
    let folder = std::env::temp_dir().join("packer-builds-from-builds");
    let at = |name: &str| folder.join(name).display().to_string();

    let base = Build::new("base", FileBuilder::content(at("base.txt"), "everything starts here\n"));
    let variant = |name: &'static str| {
        let target = at(&format!("{name}.txt"));
        let line = format!("echo 'this is {name}' >> '{target}'");
        // What `prepare` checks before anything runs; the real builder is made when the base is there.
        let preview = FileBuilder::copy(at("base.txt"), &target);
        Build::made_from(name, ["base"], preview, move |values| {
            Ok(FileBuilder::copy(first_file(values, "base")?, &target))
        })
        .provision(ShellLocal::inline([line]))
    };
    let index = {
        let target = at("index.txt");
        let preview = FileBuilder::content(&target, "both variants");
        Build::made_from("index", ["web", "db"], preview, move |values| {
            let paths = [first_file(values, "web")?, first_file(values, "db")?];
            Ok(FileBuilder::content(&target, paths.join("\n") + "\n"))
        })
    };

    let engine = Engine::new().events(PackerLines::new(std::io::stderr()).color(true));
    let report = engine.run(Pipeline::of([index, variant("web"), variant("db"), base])).await?;
    for build in &report.builds {
        println!("{}: {:?}", build.name, build.status);
    }
    print!("{}", std::fs::read_to_string(Path::new(&at("index.txt")))?);
    Ok(())
}

/// The first file of the artifact of a build that this one needs.
fn first_file(values: &RunValues, build: &str) -> Result<String, Diagnostics> {
    let artifact = values.artifacts.get(build).and_then(|made| made.first());
    let file = artifact.and_then(|a| a.files.first());
    file.map(|path| path.display().to_string())
        .ok_or_else(|| Diagnostic::error(format!("the build {build} made no file")).into())
}
