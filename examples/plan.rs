//! What a run would do, said before it runs: which steps are taken from the cache, and what changed where they are not.
//!
//! `cargo run --example plan`
#![expect(clippy::print_stdout, reason = "it is a program for a terminal")]

#[cfg(unix)]
#[tokio::main]
async fn main() -> Result<(), Box<dyn std::error::Error>> {
    use packer_core::engine::Cache;
    use packer_core::template::{Inputs, Template};
    use packer_core::{Engine, Registry};

    const TEMPLATE: &str = r#"
        variable "folder" {}

        source "oci" "web" {
          output = ["oci:${var.folder}/image:web"]
        }

        build {
          sources = ["oci.web"]

          provisioner "file" {
            content     = "8080"
            destination = "/port"
          }
          provisioner "file" {
            source      = "${var.folder}/motd"
            destination = "/motd"
          }
        }
    "#;

    let folder = std::env::temp_dir().join(format!("packer-plan-{}", std::process::id()));
    std::fs::create_dir_all(&folder)?;
    let motd = folder.join("motd");
    std::fs::write(&motd, "welcome")?;

    let mut registry = Registry::new();
    packer_builders::register(&mut registry);
    packer_provisioners::register(&mut registry);
    let engine = Engine::new().cache(Cache::new(folder.join("cache"), registry.clone()));

    let template = Template::from_texts([("web.pkr.hcl", TEMPLATE)])?;
    let inputs = Inputs::new().var("folder", folder.display().to_string());
    let pipeline = template.evaluate(&registry, inputs).await?;

    println!("Before the first run:\n\n{}", engine.plan(&pipeline).await?);
    let report = engine.run(pipeline.clone()).await?;
    if !report.succeeded() {
        return Err(format!("{:?}", report.builds[0].error).into());
    }
    std::fs::write(&motd, "welcome back")?;
    // A plan is data too: `plan.builds[0].steps[1].reasons`.
    println!("When a file has changed:\n\n{}", engine.plan(&pipeline).await?);

    std::fs::remove_dir_all(&folder)?;
    Ok(())
}

#[cfg(not(unix))]
fn main() {
    println!("the builder of this example is for Unix");
}
