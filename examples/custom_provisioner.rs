//! A provisioner of one's own, used in code and by its name in a template.
//!
//! `cargo run --example custom_provisioner`

use packer_builders::Null;
use packer_core::event::PackerLines;
use packer_core::{
    Build, Context, Diagnostic, Diagnostics, Engine, Error, Machine, Pipeline, PrepareContext, Provisioner,
    Result, async_trait,
};
use schemars::JsonSchema;
use serde::Deserialize;

/// Waits until something listens on a port of this computer.
#[derive(Deserialize, JsonSchema)]
struct WaitForPort {
    /// The port.
    port: u16,
    /// How often to look, once every 100 milliseconds.
    #[serde(default = "fifty")]
    tries: u32,
}

fn fifty() -> u32 {
    50
}

#[async_trait]
impl Provisioner for WaitForPort {
    /// Called before any build starts; nothing is done yet.
    fn prepare(&self, _: &PrepareContext) -> Diagnostics {
        let mut found = Diagnostics::new();
        if self.port == 0 {
            found.push(
                Diagnostic::error("port 0 is no port").help("give the port that the service listens on"),
            );
        }
        found
    }

    async fn provision(&self, cx: &Context, _machine: &dyn Machine) -> Result<()> {
        cx.say(format!("Waiting for port {}", self.port));
        for _ in 0..self.tries {
            if tokio::net::TcpStream::connect(("127.0.0.1", self.port)).await.is_ok() {
                cx.say("It is there");
                return Ok(());
            }
            // Ends at once when the run is cancelled.
            cx.sleep(std::time::Duration::from_millis(100)).await?;
        }
        Err(Error::guest(format!("nothing listens on port {}", self.port)).retryable())
    }
}

#[tokio::main]
async fn main() -> Result<(), Box<dyn std::error::Error>> {
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await?;
    let port = listener.local_addr()?.port();

    let build = Build::new("probe", Null::local()).provision(WaitForPort { port, tries: fifty() });
    let engine = Engine::new().events(PackerLines::new(std::io::stderr()));
    engine.run(Pipeline::of([build])).await?;

    // In templates: provisioner "wait-for-port" { port = 8080 }
    let mut registry = packer_core::Registry::new();
    registry.provisioner::<WaitForPort>("wait-for-port");
    Ok(())
}
