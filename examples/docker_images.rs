//! A Docker image, two more made from it, and their names, in code; templates of the same are in `examples/docker`.
//!
//! `cargo run --example docker_images -- debian:12`
#![expect(clippy::print_stdout, reason = "it is a program for a terminal")]

use packer_builders::Docker;
use packer_core::event::PackerLines;
use packer_core::{Build, Diagnostic, Diagnostics, Engine, Host, Pipeline, RunValues};
use packer_postproc::DockerTag;
use packer_provisioners::{Shell, Upload};

#[tokio::main]
async fn main() -> Result<(), Box<dyn std::error::Error>> {
    let base = std::env::args().nth(1).unwrap_or_else(|| "debian:12".to_owned());
    let serve = concat!(env!("CARGO_MANIFEST_DIR"), "/docker/serve.sh");

    let web = Build::new("web", Docker::image(base).no_pull().change("EXPOSE 8080").commit())
        .provision(Shell::inline(["mkdir -p /srv/www /usr/local/bin"]))
        .provision(Upload::new(serve, "/usr/local/bin/serve"))
        .post_process(DockerTag::new("example/web").tag("base"));
    let variant = |name: &'static str| {
        // What `prepare` checks before anything runs; the real builder is made when the base is there.
        let preview = Docker::image("web").no_pull().commit();
        Build::made_from(name, ["web"], preview, |values| {
            Ok(Docker::image(image(values, "web")?).no_pull().commit())
        })
        .provision(Shell::inline([format!("echo 'hello from {name}' > /srv/www/index.html")]))
        .post_process(DockerTag::new("example/web").tag(name))
    };

    let engine =
        Engine::new().host(Host::from_process()).events(PackerLines::new(std::io::stderr()).color(true));
    let report = engine.run(Pipeline::of([web, variant("red"), variant("blue")])).await?;
    for build in &report.builds {
        let ids: Vec<&str> = build.artifacts.iter().map(|artifact| artifact.id.as_str()).collect();
        println!("{}: {:?} {}", build.name, build.status, ids.join(" "));
    }
    if report.succeeded() { Ok(()) } else { Err("some builds failed".into()) }
}

/// The image that a build has made.
fn image(values: &RunValues, build: &str) -> Result<String, Diagnostics> {
    let artifact = values.artifacts.get(build).and_then(|made| made.first());
    artifact
        .map(|artifact| artifact.id.clone())
        .ok_or_else(|| Diagnostic::error(format!("the build {build} made no image")).into())
}
