//! A template, with values for its variables from the host and a component of the host's own beside ours.
//!
//! `cargo run --example load_template`
#![expect(clippy::print_stdout, reason = "it is a program for a terminal")]

use packer_core::event::PackerLines;
use packer_core::template::{Inputs, Template};
use packer_core::{Engine, Registry};

#[tokio::main]
async fn main() -> Result<(), Box<dyn std::error::Error>> {
    // What templates may use is what the host registers.
    let mut registry = Registry::new();
    packer_builders::register(&mut registry);
    packer_provisioners::register(&mut registry);
    packer_postproc::register(&mut registry);

    let template = Template::load(concat!(env!("CARGO_MANIFEST_DIR"), "/quickstart"))?;
    // The library reads no environment: what a template gets is what is said here.
    let inputs = Inputs::new().var("greeting", "Greetings from the host").only(["quickstart.file.*"]);
    let pipeline = template.evaluate(&registry, inputs).await?;

    let engine = Engine::new().events(PackerLines::new(std::io::stderr()).color(true));
    let report = engine.run(pipeline).await?;
    for artifact in report.artifacts() {
        println!("{}: {:?}", artifact.description, artifact.files);
    }
    Ok(())
}
