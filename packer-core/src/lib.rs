//! Builds machine images in-process: the traits, the engine and the template language.

pub mod artifact;
pub mod blocking;
pub mod builder;
pub mod clock;
pub mod communicator;
pub mod config;
pub mod context;
pub mod data_source;
pub mod diagnostic;
pub mod duration;
pub mod engine;
pub mod error;
pub mod event;
pub mod facts;
pub mod ledger;
pub mod pipeline;
pub mod post_processor;
pub mod provisioner;
pub mod registry;
pub mod render;
pub mod secrets;
pub mod shell;
mod temp;
pub mod template;
pub mod value;
mod whole_file;

/// The version of this library, as components and templates see it (`packer.version`): the version of Packer whose
/// templates it understands.
pub const VERSION: &str = "1.16.0";

pub use artifact::Artifact;
pub use async_trait::async_trait;
pub use builder::{Builder, CheckpointKey, Lifecycle, Machine, Prepared};
pub use clock::Clock;
pub use communicator::{
    Command, Communicator, CommunicatorConfig, CommunicatorExt, ExitStatus, Globs, NoCommunicator, Source,
    Target,
};
pub use context::{BuildInfo, Context, Host, PrepareContext, Progress, Prompt};
pub use data_source::DataSource;
pub use diagnostic::{Diagnostic, Diagnostics, Location, Severity, SourceFile, Span};
pub use duration::GoDuration;
pub use engine::{Engine, OnError, Report, Run};
pub use error::{Error, Fault, Result};
pub use event::{Event, EventKind, EventSink, Level};
pub use facts::Facts;
pub use ledger::{FileLedger, Ledger, MemoryLedger, Resource, ResourceId};
pub use pipeline::{Build, Late, Pipeline, PostProcessStep, ProvisionStep, RunValues, SourceFilter};
pub use post_processor::{Keep, PostProcessor, PostProcessorExt, Processed};
pub use provisioner::{Inputs, Provisioner, ProvisionerExt};
pub use registry::Registry;
pub use secrets::{Secret, Secrets};
pub use temp::TempFile;
pub use value::{Type, Value};
pub use whole_file::WholeFile;
