//! Builds machine images in-process: the traits, the engine and the template language.
//!
//! A [`Builder`] starts a machine, [`Provisioner`]s change it, and what it leaves is an [`Artifact`] that
//! [`PostProcessor`]s handle. The [`Engine`] runs the [`Build`]s of a [`Pipeline`] in parallel, cleans up whatever
//! happens, tells typed [`Event`]s, and returns a [`Report`] as data.
//!
//! ```
//! use std::sync::Arc;
//!
//! use packer_core::event::PackerLines;
//! use packer_core::{
//!     Artifact, Build, Builder, Communicator, Context, Diagnostics, Engine, Error, Facts, Machine, NoCommunicator,
//!     Pipeline, PrepareContext, Prepared, Provisioner, ProvisionerExt, Resource, Result, async_trait,
//! };
//!
//! /// A builder whose machine is a file.
//! struct Note {
//!     path: std::path::PathBuf,
//! }
//!
//! #[async_trait]
//! impl Builder for Note {
//!     async fn prepare(&self, _: &PrepareContext) -> Result<Prepared, Diagnostics> {
//!         Ok(Prepared::new())
//!     }
//!
//!     async fn launch(&self, cx: &Context) -> Result<Box<dyn Machine>> {
//!         let draft = self.path.with_extension("draft");
//!         // Into the ledger first: the draft goes away whatever happens from here on.
//!         let create = async { std::fs::write(&draft, "hello").map_err(|e| Error::io("write", &draft, e)) };
//!         cx.own(Resource::file(&draft), create).await?;
//!         Ok(Box::new(Draft { facts: Facts::new().id("note"), draft, path: self.path.clone() }))
//!     }
//!
//!     async fn release(&self, _: &Context, _: &Resource) -> Result<()> {
//!         Ok(()) // files are released by the engine itself
//!     }
//! }
//!
//! struct Draft {
//!     facts: Facts,
//!     draft: std::path::PathBuf,
//!     path: std::path::PathBuf,
//! }
//!
//! #[async_trait]
//! impl Machine for Draft {
//!     fn communicator(&self) -> Arc<dyn Communicator> {
//!         Arc::new(NoCommunicator::new())
//!     }
//!
//!     fn facts(&self) -> &Facts {
//!         &self.facts
//!     }
//!
//!     async fn capture(&self, _: &Context) -> Result<Artifact> {
//!         std::fs::copy(&self.draft, &self.path).map_err(|e| Error::io("copy", &self.draft, e))?;
//!         Ok(Artifact::new("example.note", "note").file(&self.path))
//!     }
//! }
//!
//! struct Greet;
//!
//! #[async_trait]
//! impl Provisioner for Greet {
//!     async fn provision(&self, cx: &Context, _: &dyn Machine) -> Result<()> {
//!         cx.say("nothing to change in this one");
//!         Ok(())
//!     }
//! }
//!
//! # fn main() -> std::result::Result<(), Box<dyn std::error::Error>> {
//! # let folder = tempfile::tempdir()?;
//! # std::env::set_current_dir(&folder)?;
//! let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
//! let note = Build::new("note", Note { path: "note.txt".into() }).provision(Greet.max_retries(2));
//! let engine = Engine::new().events(PackerLines::new(std::io::stdout()));
//! let report = runtime.block_on(engine.run(Pipeline::of([note])))?;
//! assert!(report.succeeded());
//! assert_eq!(std::fs::read_to_string("note.txt")?, "hello");
//! # Ok(())
//! # }
//! ```
//!
//! Ready-made builders, provisioners and post-processors are in `packer-builders`, `packer-provisioners` and
//! `packer-postproc`; [`template`] loads them from `.pkr.hcl` files and legacy JSON templates; [`Registry`] is where a host lists what
//! templates may use. The [`manual`] shows how to embed the library and how to write components.

pub mod artifact;
#[cfg(feature = "aws-requests")]
pub mod aws;
pub mod builder;
pub mod clock;
pub mod communicator;
pub mod config;
pub mod context;
pub mod data_source;
pub mod diagnostic;
#[cfg(feature = "docker-credentials")]
pub mod docker;
pub mod duration;
pub mod engine;
pub mod error;
pub mod event;
pub mod facts;
pub mod kit;
pub mod language;
pub mod ledger;
pub mod manual;
pub mod pipeline;
pub mod post_processor;
pub mod provisioner;
pub mod registry;
pub mod secrets;
pub mod services;
pub mod template;
#[cfg(any(test, feature = "testing"))]
pub mod testing;
pub mod value;

/// The version of this library, as components and templates see it (`packer.version`): the version of Packer whose
/// templates it understands.
pub const VERSION: &str = "1.16.0";

pub use artifact::Artifact;
pub use async_trait::async_trait;
pub use builder::{BootTest, Builder, CheckpointKey, Lifecycle, Machine, Prepared};
pub use clock::Clock;
pub use communicator::{
    Command, Communicator, CommunicatorConfig, CommunicatorExt, ExitStatus, Globs, NoCommunicator, Source,
    StatusLost, Target,
};
pub use context::{Context, Host, PrepareContext, Progress, Prompt};
pub use data_source::DataSource;
pub use diagnostic::{Diagnostic, Diagnostics, Location, Severity, SourceFile, Span};
pub use duration::GoDuration;
pub use engine::{Engine, OnError, Report, Run};
pub use error::{Error, ErrorInfo, Fault, Result};
pub use event::{Event, EventKind, EventSink, Level};
pub use facts::{BuildInfo, Facts};
pub use kit::{TempFile, WholeFile};
pub use ledger::{FileLedger, Ledger, LedgerFolder, MemoryLedger, Resource, ResourceId};
pub use pipeline::{
    Build, Late, Output, Outputs, Pipeline, PostProcessStep, PostProcessorExt, ProvidedPlugin, ProvisionStep,
    ProvisionerExt, RunValues, SourceFilter,
};
pub use post_processor::{Keep, PostProcessor, Processed};
pub use provisioner::{Provisioner, StepInputs};
pub use registry::Registry;
pub use secrets::{Secret, Secrets};
pub use value::{Type, Value};
