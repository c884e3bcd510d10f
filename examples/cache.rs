//! Steps that are not repeated: a build runs, then runs again with another last step, and only that one does any work.
//!
//! `cargo run --example cache`
#![expect(clippy::print_stdout, reason = "it is a program for a terminal")]

#[cfg(unix)]
#[tokio::main]
async fn main() -> Result<(), Box<dyn std::error::Error>> {
    use packer_builders::Oci;
    use packer_core::engine::Cache;
    use packer_core::{Build, Engine, Pipeline, Registry};
    use packer_provisioners::Upload;

    let folder = std::env::temp_dir().join(format!("packer-cache-{}", std::process::id()));
    std::fs::create_dir_all(&folder)?;

    // States that are pruned are released by builders that the cache makes by their registered names.
    let mut registry = Registry::new();
    packer_builders::register(&mut registry);
    let cache = Cache::new(folder.join("cache"), registry).keep_at_most(10);
    let engine = Engine::new().cache(cache.clone());

    for motd in ["welcome\n", "welcome back\n"] {
        let image = format!("oci:{}:web", folder.join("image").display());
        let build = Build::new("web", Oci::scratch([image]))
            .provision(Upload::content("8080\n", "/port"))
            .provision(Upload::content(motd, "/motd"));
        let report = engine.run(Pipeline::of([build])).await?;
        if !report.succeeded() {
            return Err(format!("{:?}", report.builds[0].error).into());
        }
        for step in report.builds[0].cache.iter().flat_map(|cache| &cache.steps) {
            let reasons: Vec<String> = step.reasons.iter().map(ToString::to_string).collect();
            match step.reused {
                true => println!("step {}: taken from the cache", step.number),
                false => println!("step {}: ran, because {}", step.number, reasons.join(" and ")),
            }
        }
    }

    println!("{} states are saved", cache.list()?.len());
    std::fs::remove_dir_all(&folder)?;
    Ok(())
}

#[cfg(not(unix))]
fn main() {
    println!("the builder of this example is for Unix");
}
