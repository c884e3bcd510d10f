//! An image of Amazon's EC2 in code; templates of this, of copies in other regions and of Windows are in `examples/amazon`.
//!
//! `cargo run -p examples --example amazon_image -- REGION`
//!
//! Credentials are found as AWS's own tools find them. A run takes away first what one before it has left that was killed.
#![expect(clippy::print_stdout, reason = "it is a program for a terminal")]

use packer_builders::AmazonEbs;
use packer_core::event::PackerLines;
use packer_core::{Build, Engine, Host, LedgerFolder, Pipeline, Registry};
use packer_provisioners::Shell;

#[tokio::main]
async fn main() -> Result<(), Box<dyn std::error::Error>> {
    let region = std::env::args().nth(1).ok_or("amazon_image REGION")?;
    let web = AmazonEbs::from_newest("136693071363", "debian-12-amd64-*")
        .region(region)
        .instance_type("t3.micro")
        .ssh("admin")
        .name(format!("web-{}", jiff::Timestamp::now().as_second()))
        .tag("MadeFrom", "{{ .SourceAMIName }}");
    let build = Build::new("web", web).provision(Shell::inline([
        "cloud-init status --wait",
        "sudo apt-get update",
        "sudo DEBIAN_FRONTEND=noninteractive apt-get install -y --no-install-recommends nginx",
    ]));

    // A later process finds here what this one leaves when it is killed, and knows who releases it.
    let ledgers = LedgerFolder::at(std::env::temp_dir().join("packer-amazon-image"));
    let mut registry = Registry::new();
    packer_builders::register(&mut registry);
    let engine = Engine::new()
        .host(Host::from_process())
        .ledger_folder(ledgers.clone())
        .registry(registry.clone())
        .events(PackerLines::new(std::io::stderr()).color(true));
    engine.recover_all(&ledgers, &registry).await?;

    let report = engine.run(Pipeline::of([build])).await?;
    for artifact in report.artifacts() {
        // The regions with their images, as data.
        println!("{} {:?}", artifact.id, artifact.metadata.get("regions"));
    }
    if report.succeeded() { Ok(()) } else { Err("the build failed".into()) }
}
