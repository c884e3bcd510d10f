//! What happens when a build fails: the host is asked while the machine still lives.

use std::fmt;
use std::str::FromStr;
use std::sync::Arc;

use async_trait::async_trait;

use crate::builder::Machine;
use crate::context::Context;
use crate::error::Error;

/// Decides what is done about a failure of a build, before anything is torn down.
///
/// Not asked when the run was cancelled, nor for machines of [`Lifecycle::Flat`](crate::Lifecycle::Flat), nor
/// about post-processors.
#[async_trait]
pub trait FailureHandler: Send + Sync {
    /// Looks at the failure, into the machine if need be, and decides. The future is dropped when the run is
    /// cancelled, and the build is then cleaned up.
    async fn on_failure(&self, failure: &Failure<'_>) -> Decision;
}

/// A build that failed and still stands.
#[derive(Debug)]
#[non_exhaustive]
pub struct Failure<'a> {
    /// What went wrong.
    pub error: &'a Error,
    /// Where in the life of the build.
    pub phase: Phase,
    /// The name of the step, as Packer's output names it: `StepProvision`.
    pub step: &'a str,
    /// The machine with its communicator; `None` where it did not come up.
    pub machine: Option<&'a dyn Machine>,
    /// The context of the build: to say something, to ask, to run a command.
    pub cx: &'a Context,
    /// How often this build has failed and been tried again by decision of the handler.
    pub tries: u32,
}

/// The part of a build's life in which it failed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub enum Phase {
    /// While the machine was brought up.
    Launch,
    /// In a provisioner.
    Provision,
    /// While the artifact was made.
    Capture,
    /// While the artifact was tested: its machine did not start, or a test failed.
    Test,
}

/// What is to be done about a failure.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub enum Decision {
    /// Run the error-cleanup provisioner, release everything, and count the build as failed.
    CleanUp,
    /// Leave everything as it is. The ledger keeps it, so that [`Engine::recover`](crate::Engine::recover) can release
    /// it later.
    Abort,
    /// Run the error-cleanup provisioner and leave everything else as it is. Tests have none: then it is `Abort`.
    RunCleanupProvisioner,
    /// Do the phase again from its beginning: launch anew, run all provisioners, capture again, boot anew and run all tests.
    Retry,
    /// Run the provisioner that failed again and go on from there; in other phases the same as `Retry`.
    RetryProvisioner,
    /// Go on behind the provisioner that failed; in other phases the same as `CleanUp`.
    SkipProvisioner,
}

/// Packer's policies for failures.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
#[non_exhaustive]
pub enum OnError {
    /// Clean everything up.
    #[default]
    Cleanup,
    /// Leave everything as it is.
    Abort,
    /// Ask whoever sits before the host; clean up where nobody does.
    Ask,
    /// Run the error-cleanup provisioner and leave everything else as it is.
    RunCleanupProvisioner,
}

impl OnError {
    /// The name on Packer's command line.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Cleanup => "cleanup",
            Self::Abort => "abort",
            Self::Ask => "ask",
            Self::RunCleanupProvisioner => "run-cleanup-provisioner",
        }
    }

    pub(crate) fn handler(self) -> Arc<dyn FailureHandler> {
        match self {
            Self::Cleanup => Arc::new(Cleanup),
            Self::Abort => Arc::new(Abort),
            Self::Ask => Arc::new(Ask),
            Self::RunCleanupProvisioner => Arc::new(RunCleanupProvisioner),
        }
    }
}

impl fmt::Display for OnError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

impl FromStr for OnError {
    type Err = Error;

    /// From the name on Packer's command line; an empty one is the default.
    fn from_str(text: &str) -> Result<Self, Error> {
        Ok(match text {
            "" | "cleanup" => Self::Cleanup,
            "abort" => Self::Abort,
            "ask" => Self::Ask,
            "run-cleanup-provisioner" => Self::RunCleanupProvisioner,
            other => {
                return Err(Error::user(format!(
                    "{other:?} is no policy for errors; there are cleanup, abort, ask and run-cleanup-provisioner"
                )));
            }
        })
    }
}

struct Cleanup;

#[async_trait]
impl FailureHandler for Cleanup {
    async fn on_failure(&self, _: &Failure<'_>) -> Decision {
        Decision::CleanUp
    }
}

struct Abort;

#[async_trait]
impl FailureHandler for Abort {
    async fn on_failure(&self, failure: &Failure<'_>) -> Decision {
        failure.cx.say_error(failure.error.message());
        failure.cx.say_error(format!("Step {:?} failed, aborting...", failure.step));
        Decision::Abort
    }
}

struct RunCleanupProvisioner;

#[async_trait]
impl FailureHandler for RunCleanupProvisioner {
    async fn on_failure(&self, _: &Failure<'_>) -> Decision {
        Decision::RunCleanupProvisioner
    }
}

struct Ask;

/// How many answers that are none of the offered ones are borne before the build is cleaned up: a prompt that
/// answers by itself must not hold a run for ever.
const MISUNDERSTANDINGS: u32 = 10;

#[async_trait]
impl FailureHandler for Ask {
    async fn on_failure(&self, failure: &Failure<'_>) -> Decision {
        let cx = failure.cx;
        cx.say_error(failure.error.message());
        cx.say_error(format!("Step {:?} failed", failure.step));
        for _ in 0..MISUNDERSTANDINGS {
            let question = "[c] clean up and exit, [a] abort without cleanup, or [r] retry the step? ";
            // Nobody to ask: as if the answer were empty.
            let answer = cx.ask(question).await.unwrap_or_default();
            match answer.trim().to_lowercase().as_str() {
                "" | "c" => return Decision::CleanUp,
                "a" => return Decision::Abort,
                "r" => return Decision::Retry,
                other => cx.say(format!("{other:?} is none of c, a and r.")),
            }
        }
        Decision::CleanUp
    }
}
