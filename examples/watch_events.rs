//! Events are typed data: a host shows, stores or counts what it wants, and cancels when it has seen enough.
//!
//! `cargo run --example watch_events`
#![expect(clippy::print_stdout, reason = "it is a program for a terminal")]

use packer_builders::Null;
use packer_core::{Build, Engine, EventKind, Pipeline};
use packer_provisioners::ShellLocal;

#[tokio::main]
async fn main() -> Result<(), Box<dyn std::error::Error>> {
    let count = |name: &str, to: u32| {
        Build::new(name, Null::local())
            .provision(ShellLocal::inline([format!("for i in $(seq {to}); do echo $i; sleep 0.2; done")]))
    };
    let mut run = Engine::new().start(Pipeline::of([count("quick", 3), count("endless", 100_000)]))?;

    let mut events = run.events();
    while let Some(event) = events.recv().await {
        let build = event.build.as_deref().unwrap_or("the run");
        match event.kind {
            EventKind::Output { line, .. } => println!("{build} counts {line}"),
            EventKind::BuildFinished { elapsed, .. } => {
                println!("{build} took {:.1} s; that is enough", elapsed.as_secs_f64());
                run.cancel("the example has seen enough");
            }
            EventKind::BuildFailed { error, .. } => println!("{build} ended: {error}"),
            _ => {}
        }
    }
    let report = run.report().await?;
    println!("{}", serde_json::to_string_pretty(&report)?);
    Ok(())
}
