//! The post-processor's contract: make something of an artifact.

use std::borrow::Cow;

use async_trait::async_trait;

use crate::artifact::Artifact;
use crate::builder::type_name_of;
use crate::context::{Context, PrepareContext};
use crate::diagnostic::Diagnostics;
use crate::error::{Error, Result};
use crate::ledger::Resource;
use crate::value::Value;

/// Makes something of an artifact: another artifact, a record of it, a copy elsewhere.
///
/// # Behavior
/// - The post-processors of a sequence run in order, each with the artifact of the one before; sequences start from
///   the builder's artifact. A failure ends its sequence; the others go on; the build counts as failed and its
///   artifact stays in place.
/// - Never removes its input: whether that stays is decided by the engine from [`Keep`] and the user's
///   `keep_input_artifact`.
/// - Output files are written beside their target and renamed, so that a failure leaves no half file.
#[async_trait]
pub trait PostProcessor: Send + Sync {
    /// Checks what can be checked without an artifact. The default finds nothing wrong.
    fn prepare(&self, _cx: &PrepareContext) -> Diagnostics {
        Diagnostics::new()
    }

    /// Handles one artifact.
    async fn post_process(&self, cx: &Context, artifact: Artifact) -> Result<Processed>;

    /// Destroys one resource that this post-processor's artifacts own. Idempotent, like
    /// [`Builder::release`](crate::Builder::release).
    async fn release(&self, _cx: &Context, resource: &Resource) -> Result<()> {
        Err(Error::internal(format!("nothing is known about how to release {resource}")))
    }

    /// The configuration as a block of a template would hold it: an object without the fields that are not
    /// set, sensitive where it is secret. What a
    /// pipeline written in code is exported from, what `plan` shows, and part of the key under which a finished step may
    /// be reused. `None`, the default, where a component cannot say; [`config::to_value`](crate::config::to_value) makes
    /// it from a struct that serializes.
    fn config(&self) -> Option<Value> {
        None
    }

    /// The name of this kind of post-processor in output where no template gives one.
    fn type_name(&self) -> Cow<'static, str> {
        type_name_of::<Self>()
    }
}

/// What a post-processor made, and what it asks for its input.
#[derive(Debug, Clone, PartialEq)]
#[non_exhaustive]
pub struct Processed {
    /// The artifact for the next of the sequence; `None` ends the sequence without a result.
    pub artifact: Option<Artifact>,
    /// What is to become of the input.
    pub keep: Keep,
}

impl Processed {
    /// A new artifact; the input is discarded unless the user says otherwise.
    pub fn replacing(artifact: Artifact) -> Self {
        Self { artifact: Some(artifact), keep: Keep::No }
    }

    /// A new artifact; the input stays unless the user says otherwise.
    pub fn beside(artifact: Artifact) -> Self {
        Self { artifact: Some(artifact), keep: Keep::Yes }
    }

    /// The artifact shares what the input owns, so the input stays whatever the user says.
    pub fn needing_input(artifact: Artifact) -> Self {
        Self { artifact: Some(artifact), keep: Keep::Always }
    }
}

/// Whether the input of a post-processor stays.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub enum Keep {
    /// It goes, unless the user sets `keep_input_artifact = true`.
    No,
    /// It stays, unless the user sets `keep_input_artifact = false`.
    Yes,
    /// It stays: the new artifact needs it.
    Always,
}
