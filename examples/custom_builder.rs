//! A builder of one's own in three verbs. Its machine is a folder: provisioners run commands and put files in it, and
//! what they leave there is the artifact.
//!
//! `cargo run --example custom_builder`

use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::sync::Arc;

use packer_core::event::PackerLines;
use packer_core::template::{Inputs, Template};
use packer_core::{
    Artifact, Build, Builder, Command, Communicator, Context, Diagnostic, Diagnostics, Engine, Error,
    ExitStatus, Facts, Globs, Machine, Pipeline, PrepareContext, Prepared, Registry, Resource, Result,
    Source, async_trait,
};
use packer_provisioners::Shell;
use schemars::JsonSchema;
use serde::Deserialize;
use tokio::io::{AsyncReadExt, AsyncWrite, AsyncWriteExt};

/// The configuration is the builder: these fields are what a template's block may hold.
#[derive(Deserialize, JsonSchema)]
struct Folder {
    /// Where the finished folder goes.
    output: String,
}

#[async_trait]
impl Builder for Folder {
    async fn prepare(&self, cx: &PrepareContext) -> Result<Prepared, Diagnostics> {
        if Path::new(&self.output).exists() && !cx.build.force {
            return Err(Diagnostic::error(format!("{} exists", self.output))
                .help("force replaces it")
                .into());
        }
        Ok(Prepared::new())
    }

    /// Makes the machine. Its name is in the ledger before it exists, so that it is removed whatever happens.
    async fn launch(&self, cx: &Context) -> Result<Box<dyn Machine>> {
        let path = PathBuf::from(format!("{}.{}.building", self.output, cx.run_id()));
        let resource = Resource::new("workspace", path.to_string_lossy());
        let made = cx.own(resource.clone(), async {
            std::fs::create_dir_all(&path).map_err(|e| Error::io("mkdir", &path, e))
        });
        cx.step("make the folder", made).await?;
        let facts = Facts::new().id(&path.to_string_lossy());
        Ok(Box::new(Open { path, output: self.output.clone(), resource, facts }))
    }

    /// Destroys what `launch` made. A resource that is gone is success, and a later process may call this too.
    async fn release(&self, _: &Context, resource: &Resource) -> Result<()> {
        match std::fs::remove_dir_all(&resource.name) {
            Err(e) if e.kind() != std::io::ErrorKind::NotFound => Err(Error::io("remove", &resource.name, e)),
            _ => Ok(()),
        }
    }
}

struct Open {
    path: PathBuf,
    output: String,
    resource: Resource,
    facts: Facts,
}

#[async_trait]
impl Machine for Open {
    fn communicator(&self) -> Arc<dyn Communicator> {
        Arc::new(Inside(self.path.clone()))
    }

    fn facts(&self) -> &Facts {
        &self.facts
    }

    /// Turns the machine into an artifact.
    async fn capture(&self, cx: &Context) -> Result<Artifact> {
        let _ = std::fs::remove_dir_all(&self.output);
        std::fs::rename(&self.path, &self.output).map_err(|e| Error::io("rename", &self.path, e))?;
        cx.released(&self.resource)?; // it has another name now
        Ok(Artifact::new("example.folder", &self.output).describe(format!("Folder: {}", self.output)))
    }
}

/// The way into the machine: commands run in the folder, and paths that are not absolute are relative to it.
struct Inside(PathBuf);

#[async_trait]
impl Communicator for Inside {
    async fn exec(&self, _: &Context, command: Command<'_>) -> Result<ExitStatus> {
        let mut shell = tokio::process::Command::new("/bin/sh");
        shell.args(["-c", &command.text]).current_dir(&self.0).stdin(Stdio::null()).kill_on_drop(true);
        let output = shell.output().await.map_err(|e| Error::io("run", "/bin/sh", e))?;
        for (bytes, sink) in [(output.stdout, command.stdout), (output.stderr, command.stderr)] {
            if let Some(sink) = sink {
                sink.write_all(&bytes).await.map_err(|e| Error::provider(e.to_string()))?;
            }
        }
        Ok(ExitStatus::Code(output.status.code().unwrap_or(-1)))
    }

    async fn upload(&self, _: &Context, source: Source<'_>, to: &str) -> Result<()> {
        let to = self.0.join(to);
        let mut bytes = Vec::new();
        match source {
            Source::File(path) => bytes = std::fs::read(path).map_err(|e| Error::io("read", path, e))?,
            Source::Bytes(given) => bytes.extend_from_slice(given),
            Source::Reader { reader, .. } => {
                reader.read_to_end(&mut bytes).await.map_err(|e| Error::provider(e.to_string()))?;
            }
            other => return Err(Error::internal(format!("cannot upload {other:?}"))),
        }
        std::fs::write(&to, bytes).map_err(|e| Error::io("write", &to, e))
    }

    async fn download(
        &self,
        _: &Context,
        from: &str,
        sink: &mut (dyn AsyncWrite + Send + Unpin),
    ) -> Result<()> {
        let from = self.0.join(from);
        let bytes = std::fs::read(&from).map_err(|e| Error::io("read", &from, e))?;
        sink.write_all(&bytes).await.map_err(|e| Error::provider(e.to_string()))
    }

    async fn upload_dir(&self, _: &Context, from: &Path, _: &str, _: &Globs) -> Result<()> {
        Err(Error::user(format!("this machine takes single files only, not the folder {}", from.display())))
    }

    async fn download_dir(&self, _: &Context, from: &str, _: &Path, _: &Globs) -> Result<()> {
        Err(Error::user(format!("this machine gives single files only, not the folder {from}")))
    }
}

const TEMPLATE: &str = r#"
variable "folder" {}

source "folder" "site" {
  output = var.folder
}

build {
  sources = ["folder.site"]

  provisioner "shell" {
    inline = ["echo 'made by ${build.ID}' > about.txt"]
  }
}
"#;

#[tokio::main]
async fn main() -> Result<(), Box<dyn std::error::Error>> {
    let output = std::env::temp_dir().join("packer-custom-builder").display().to_string();
    let build = Build::new("site", Folder { output }).provision(Shell::inline([
        "mkdir -p www",
        "echo '<h1>hello</h1>' > www/index.html",
        "ls -R",
    ]));
    let engine = Engine::new().events(PackerLines::new(std::io::stderr())).force(true);
    let report = engine.run(Pipeline::of([build])).await?;
    if !report.succeeded() {
        return Err("the build in code failed".into());
    }

    // Templates use it by the name it is registered under.
    let mut registry = Registry::new();
    registry.builder::<Folder>("folder");
    packer_provisioners::register(&mut registry);
    let template = Template::from_texts([("site.pkr.hcl", TEMPLATE)])?;
    let folder = std::env::temp_dir().join("packer-custom-builder-template").display().to_string();
    let pipeline = template.evaluate(&registry, Inputs::new().var("folder", folder)).await?;
    let report = engine.run(pipeline).await?;
    if report.succeeded() { Ok(()) } else { Err("the build failed".into()) }
}
