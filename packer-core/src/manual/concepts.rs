//! The words that all other pages use, and the life of a build.
//!
//! # The words
//!
//! A [`Pipeline`](crate::Pipeline) is what is to be done: [`Build`](crate::Build)s, and values to make of their results.
//! A template evaluates to one and code composes one; the engine cannot tell which it was. Builds run at the same time
//! unless one [needs](crate::Build::after) another.
//!
//! A **build** has one builder, provisioners in order, and sequences of post-processors. These are **components**: each is
//! a struct whose fields are its configuration, which implements one trait.
//!
//! | component | trait | what it does |
//! |---|---|---|
//! | builder | [`Builder`](crate::Builder) | brings a machine up, turns it into an artifact, destroys what it made |
//! | provisioner | [`Provisioner`](crate::Provisioner) | changes the machine while it is up |
//! | post-processor | [`PostProcessor`](crate::PostProcessor) | makes something of an artifact |
//! | data source | [`DataSource`](crate::DataSource) | looks something up for a template, before builds are known |
//!
//! A [`Machine`](crate::Machine) is what a builder has brought up: its fields hold what the builder needs to finish. A
//! [`Communicator`](crate::Communicator) is the way into it: commands and files.
//!
//! [`Facts`](crate::Facts) are what is known of a machine that is up; templates read them as `build.ID`, `build.Host` and so on.
//!
//! A [`Resource`](crate::Resource) is something that outlives a function call: a virtual machine, a key pair in a cloud, a
//! temporary file. It is written into the [`Ledger`](crate::Ledger) **before** it is created. That is the one rule which all
//! of cleanup stands on: whatever happens, what was made is known by name.
//!
//! An [`Artifact`](crate::Artifact) is what a build leaves, as plain data: an id, files, and the resources that exist as long
//! as it does. What an artifact owns is not cleaned up.
//!
//! An [`Event`](crate::Event) is something that happened, as data. The library writes nothing anywhere else: a terminal, a
//! log, a progress bar are [sinks](crate::EventSink) of the host's.
//!
//! A [`Context`](crate::Context) is what a running component has of the world around it: where it says things, owns things,
//! waits, and hears that it should stop.
//!
//! The [`Engine`](crate::Engine) runs pipelines and gives back a [`Report`](crate::Report).
//!
//! # The life of a build
//!
//! 1. [`prepare`](crate::Builder::prepare) of all its components, before any build starts and without side effects. All
//!    findings are reported at once. A build with an error is [rejected](crate::engine::Status::Rejected); the others run.
//! 2. [`launch`](crate::Builder::launch). It ends with a machine that is connected to.
//! 3. Each provisioner, with its pauses, timeout and retries.
//! 4. [`capture`](crate::Machine::capture) makes the artifact.
//! 5. [`release`](crate::Builder::release) of everything that the ledger still holds and the artifact does not own, newest
//!    first.
//! 6. Where the build has [tests](crate::Build::test): [`boot`](crate::BootTest::boot) of a machine from the artifact, the tests
//!    in it, and `release` of all that it brought. Where one fails the artifact is
//!    [set aside](crate::BootTest::set_aside), and the build fails.
//! 7. The post-processors. One that fails makes the build count as failed; the artifact stays.
//!
//! When 2, 3, 4 or 6 fails, the [failure handler](crate::engine::FailureHandler) of the host is asked, while the machine still
//! lives, whether to clean up, try again, go on or leave everything as it is; [`OnError`](crate::OnError) has Packer's policies
//! as such handlers.
//!
//! # Two kinds of stopping
//!
//! [`Run::cancel`](crate::Run::cancel) says *stop working*. Futures of components are dropped at their next await point, threads
//! of [`Context::blocking`](crate::Context::blocking) are told and waited for, and then step 5 happens. A component needs no
//! code for this: what it made is in the ledger.
//!
//! [`Run::abandon_cleanup`](crate::Run::abandon_cleanup) says *stop cleaning up too*. The report lists what is
//! [left](crate::Report::left), and the ledger keeps it for a [recovery](super::cache_and_recovery).
//!
//! # A build, run
//!
//! The components here are the fakes of [`testing`](crate::testing): machines that are folders.
//!
//! ```
//! # #[cfg(not(feature = "testing"))] fn main() {}
//! # #[cfg(feature = "testing")]
//! # #[tokio::main]
//! # async fn main() -> Result<(), Box<dyn std::error::Error>> {
//! use packer_core::testing::{FakeBuilder, FakeProvisioner, Recorder};
//! use packer_core::{Build, Engine, Pipeline, ProvisionerExt};
//!
//! # let folder = tempfile::tempdir()?;
//! let builder = FakeBuilder::new(folder.path());
//! let build = Build::new("web", builder.clone())
//!     .provision(FakeProvisioner::run("echo hello > index.html").max_retries(2))
//!     .provision(FakeProvisioner::run("cat index.html"));
//!
//! let recorder = Recorder::new(); // a sink that keeps every event
//! let report = Engine::new().events(recorder.clone()).run(Pipeline::of([build])).await?;
//!
//! assert!(report.succeeded());
//! assert_eq!(recorder.lines().last().map(String::as_str), Some("hello"));
//! // The machine and its key went when the image was there, the newer one first.
//! assert_eq!(builder.calls(), ["launch", "capture", "release machine", "release key"]);
//! let artifact = report.artifacts().next().unwrap();
//! assert_eq!(artifact.resources[0].kind, "image");
//! assert_eq!(builder.world(), [artifact.id.as_str()]);
//! # Ok(())
//! # }
//! ```
