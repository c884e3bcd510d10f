//! A builder of one's own that is entered by SSH: all options of SSH with their names in templates, in one flattened field.
//!
//! The machine is a real OpenSSH server on a port of this computer, which packer-core's feature `testing` starts where there
//! is one. What makes SSH work in a crate of one's own is the feature `ssh` of packer-core, and nothing else.
//!
//! `cargo run --example ssh_builder`
#![expect(clippy::print_stdout, reason = "it is a program for a terminal")]

#[cfg(unix)]
mod server {
    use std::sync::Arc;

    use packer_core::testing::sshd::Sshd;
    use packer_core::{
        Artifact, Builder, Communicator, CommunicatorConfig, Context, Diagnostics, Error, Facts, Machine,
        PrepareContext, Prepared, Resource, Result, Target, async_trait,
    };
    use schemars::JsonSchema;
    use serde::Deserialize;

    #[derive(Default, Deserialize, JsonSchema)]
    #[serde(default)]
    pub(super) struct Server {
        /// `ssh_username`, `ssh_timeout`, `ssh_pty` and all the others.
        #[serde(flatten)]
        communicator: CommunicatorConfig,
    }

    #[async_trait]
    impl Builder for Server {
        async fn prepare(&self, cx: &PrepareContext) -> Result<Prepared, Diagnostics> {
            let mut found = self.communicator.prepare(cx);
            if !found.has_errors() {
                found.extend(self.communicator.unsupported());
            }
            Prepared::of(found)
        }

        async fn launch(&self, cx: &Context) -> Result<Box<dyn Machine>> {
            let start = cx.blocking(|_| {
                let server = Sshd::start().ok_or_else(|| Error::user("there is no sshd"))?;
                let key = server.key();
                let key = std::fs::read_to_string(&key).map_err(|e| Error::io("open", &key, e))?;
                Ok((server, key))
            });
            let (server, key) = cx.step("start the machine", start).await?;

            // What the builder found out: where the machine is, and the key that was made for it.
            let target = Target::new("127.0.0.1", server.port()).private_key(key);
            let communicator = cx.step("connect", self.communicator.connect(cx, &target)).await?;
            let facts = self.communicator.facts(&target).id("server-1");
            Ok(Box::new(Running { _server: server, communicator, facts }))
        }

        /// The server ends with its value, so the ledger holds nothing of it. (Those of `testing` do not outlive a test;
        /// a hypervisor does, and belongs into the ledger.)
        async fn release(&self, _: &Context, _: &Resource) -> Result<()> {
            Ok(())
        }
    }

    struct Running {
        _server: Sshd,
        communicator: Arc<dyn Communicator>,
        facts: Facts,
    }

    #[async_trait]
    impl Machine for Running {
        fn communicator(&self) -> Arc<dyn Communicator> {
            self.communicator.clone()
        }

        fn facts(&self) -> &Facts {
            &self.facts
        }

        async fn capture(&self, _: &Context) -> Result<Artifact> {
            Ok(Artifact::new("example.server", "server-1").describe("Nothing is left of it"))
        }
    }
}

#[cfg(unix)]
#[tokio::main]
async fn main() -> Result<(), Box<dyn std::error::Error>> {
    use packer_core::event::PackerLines;
    use packer_core::template::{Inputs, Template};
    use packer_core::{Engine, Registry};

    const TEMPLATE: &str = r#"
        variable "user" {}

        source "server" "web" {
          ssh_username = var.user
          ssh_timeout  = "1m"
        }

        build {
          sources = ["server.web"]

          provisioner "shell" {
            inline = ["echo this is $(uname -s), entered as ${build.User} at port ${build.Port}"]
          }
        }
    "#;

    if packer_core::testing::require("sshd").is_none() {
        return Ok(()); // it has said so
    }
    let mut registry = Registry::new();
    registry.builder::<server::Server>("server");
    packer_provisioners::register(&mut registry);

    let user = std::process::Command::new("id").arg("-un").output()?;
    let inputs = Inputs::new().var("user", String::from_utf8_lossy(&user.stdout).trim());
    let template = Template::from_texts([("server.pkr.hcl", TEMPLATE)])?;
    let pipeline = template.evaluate(&registry, inputs).await?;
    let report = Engine::new().events(PackerLines::new(std::io::stdout())).run(pipeline).await?;
    println!("{:?}", report.builds[0].status);
    if report.succeeded() { Ok(()) } else { Err("the build failed".into()) }
}

#[cfg(not(unix))]
fn main() {
    println!("the machine of this example is for Unix");
}
