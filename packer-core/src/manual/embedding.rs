//! A host of one's own: what it decides, and what it gets back.
//!
//! The host program `packer` in the folder `examples` is one, with Packer's command line; everything it does, it does with
//! what is here.
//!
//! # Dependencies
//!
//! `packer-core` has the engine, the traits and the template language. The components are features of three more crates,
//! named after them; take what is wanted:
//!
//! ```toml
//! [dependencies]
//! packer-core = "0.1"
//! packer-builders = { version = "0.1", default-features = false, features = ["docker", "null", "ssh"] }
//! packer-provisioners = { version = "0.1", default-features = false, features = ["file", "shell"] }
//! packer-postproc = { version = "0.1", default-features = false, features = ["manifest"] }
//! tokio = { version = "1", features = ["macros", "rt-multi-thread"] }
//! ```
//!
//! Features of packer-core itself: `ssh` and `docker` are communicators (`docker-buildkit` and `docker-ecr` add to the latter);
//! `functions-crypto`, `functions-vault`,
//! `functions-consul` and `functions-aws` are functions of templates (without them those fail and say so); `hcl` writes pipelines
//! out as templates; `render` draws diagnostics as rustc does; `opentelemetry` makes spans of a run; `testing` has the fakes
//! and the behaviour suites.
//!
//! # A pipeline in code
//!
//! See [`Build`](crate::Build): a builder, then `provision`, `post_process`, `after`. A build made from what another made is
//! [`Build::made_from`](crate::Build::made_from). [`concepts`](super::concepts#a-build-run) has one that runs.
//!
//! # A template
//!
//! [`Template::load`](crate::template::Template::load) reads a file or a folder, in all three languages.
//! [`evaluate`](crate::template::Template::evaluate) makes the pipeline, with what the host [registers](crate::Registry) and what
//! it [hands in](crate::template::Inputs). Both give every mistake at once, with places.
//!
//! ```
//! # #[tokio::main]
//! # async fn main() {
//! use packer_core::diagnostic::packer_layout_all;
//! use packer_core::template::{Inputs, Template};
//! use packer_core::{Registry, Value};
//!
//! let text = r#"
//!   variable "ports" { type = list(number) }
//!   locals { first = var.prots[0] }
//!   source "null" "a" {}
//!   build { sources = ["null.a"] }
//! "#;
//! let template = Template::from_texts([("ports.pkr.hcl", text)]).unwrap();
//! let inputs = Inputs::new().value("ports", Value::from(vec![80, 443]));
//! let found = template.evaluate(&Registry::new(), inputs).await.unwrap_err();
//! // As Packer prints it; the fields of a `Diagnostic` are there for any other form.
//! let printed = packer_layout_all(&found);
//! assert!(printed.contains("on ports.pkr.hcl line 3"), "{printed}");
//! # }
//! ```
//!
//! [`Template::validate`](crate::template::Template::validate) checks all that can be checked without building anything, in one
//! call.
//!
//! Functions of the host's own are added with [`Inputs::functions`](crate::template::Inputs::functions), and what functions may
//! read or ask is limited with [`files`](crate::template::Inputs::files) and
//! [`services`](crate::template::Inputs::services): a host that takes templates from strangers lends neither.
//!
//! # What the library may see
//!
//! It reads no environment variable, writes to no standard stream and installs no signal handler. What components may know of
//! this computer the host lends as a [`Host`](crate::Host): folders for temporary files and for what stays, variables, and
//! somebody to ask ([`Prompt`](crate::Prompt)). [`Host::from_process`](crate::Host::from_process) lends everything this process has,
//! as a command line tool wants it; a service lends each customer's run its own.
//!
//! # Running, watching, cancelling
//!
//! [`Engine::run`](crate::Engine::run) waits for the end. [`Engine::start`](crate::Engine::start) gives a [`Run`](crate::Run) to hold:
//!
//! ```
//! # #[cfg(not(feature = "testing"))] fn main() {}
//! # #[cfg(feature = "testing")]
//! # #[tokio::main]
//! # async fn main() -> Result<(), Box<dyn std::error::Error>> {
//! # use packer_core::testing::{FakeBuilder, FakeProvisioner, TempFolder, Trouble};
//! # let folder = TempFolder::new();
//! # let builder = FakeBuilder::new(folder.path());
//! use packer_core::engine::Status;
//! use packer_core::{Build, Engine, EventKind, Pipeline};
//!
//! # let endless = FakeProvisioner::run("").trouble(Trouble::Hang);
//! let pipeline = Pipeline::of([Build::new("web", builder.clone()).provision(endless)]);
//! let mut run = Engine::new().parallel(4).start(pipeline)?;
//! let control = run.control(); // cheap to clone: for a signal handler, a button, a deadline
//! let mut events = run.events();
//! tokio::spawn(async move {
//!     while let Some(event) = events.recv().await {
//!         if let EventKind::ProvisionerStarted { .. } = event.kind {
//!             control.cancel("somebody pressed the button"); // a second wish: control.abandon_cleanup()
//!         }
//!     }
//! });
//! let report = run.report().await?;
//! assert!(report.cancelled);
//! assert_eq!(report.builds[0].status, Status::Cancelled);
//! assert!(report.left().next().is_none() && builder.world().is_empty(), "cleaned up");
//! # Ok(())
//! # }
//! ```
//!
//! Dropping the `Run`, or the future of `run`, cancels too, and cleanup goes on in the background: keep the runtime alive for
//! it.
//!
//! # Events
//!
//! [`EventKind`](crate::EventKind) lists all there are. A sink is anything that implements [`EventSink`](crate::EventSink), a closure
//! for instance; it is called from the tasks of the run and must be quick. Ready-made ones:
//! [`PackerLines`](crate::event::PackerLines) (Packer's terminal output), [`MachineReadable`](crate::event::MachineReadable)
//! (`-machine-readable`), [`JsonLines`](crate::event::JsonLines), [`Timeline`](crate::event::Timeline) (a page of HTML). Texts are
//! scrubbed of [secrets](super::secrets) before any sink sees them. An [`Event`](crate::Event) serializes and can be read again: what
//! one process wrote as JSON lines, another shows, also an older one, which passes on what it does not know as
//! [`EventKind::Other`](crate::EventKind::Other).
//!
//! ```
//! # #[cfg(not(feature = "testing"))] fn main() {}
//! # #[cfg(feature = "testing")]
//! # #[tokio::main]
//! # async fn main() -> Result<(), Box<dyn std::error::Error>> {
//! # use packer_core::testing::{FakeBuilder, TempFolder};
//! # let folder = TempFolder::new();
//! # let builder = FakeBuilder::new(folder.path());
//! use std::sync::atomic::{AtomicUsize, Ordering};
//! use std::sync::Arc;
//! use packer_core::{Build, Engine, Event, EventKind, Pipeline};
//!
//! let made = Arc::new(AtomicUsize::new(0));
//! let counter = made.clone();
//! let engine = Engine::new().events(move |event: &Event| {
//!     if let EventKind::ResourceOwned { .. } = event.kind {
//!         counter.fetch_add(1, Ordering::Relaxed);
//!     }
//! });
//! engine.run(Pipeline::of([Build::new("web", builder)])).await?;
//! assert_eq!(made.load(Ordering::Relaxed), 3); // a key, a machine, an image
//! # Ok(())
//! # }
//! ```
//!
//! # Failures
//!
//! `run` is an error only where nothing ran. A build that failed is in the [`Report`](crate::Report) with its
//! [`Error`](crate::Error): what, in which step, at which place of the template, [whose fault](crate::Fault) it looks like,
//! whether another try may help. Before anything is torn down a [`FailureHandler`](crate::engine::FailureHandler) may look into
//! the machine and decide:
//!
//! ```
//! # #[cfg(not(feature = "testing"))] fn main() {}
//! # #[cfg(feature = "testing")]
//! # #[tokio::main]
//! # async fn main() -> Result<(), Box<dyn std::error::Error>> {
//! # use packer_core::testing::{FakeBuilder, FakeProvisioner, TempFolder, Trouble};
//! # let folder = TempFolder::new();
//! # let builder = FakeBuilder::new(folder.path());
//! # let flaky = FakeProvisioner::run("").trouble(Trouble::Fail).first_tries(1);
//! use packer_core::engine::{Decision, Failure, FailureHandler};
//! use packer_core::{Build, CommunicatorExt, Engine, Pipeline, async_trait};
//!
//! struct OnceMore;
//!
//! #[async_trait]
//! impl FailureHandler for OnceMore {
//!     async fn on_failure(&self, failure: &Failure<'_>) -> Decision {
//!         if let Some(machine) = failure.machine {
//!             // What the machine has to say about it, while it still lives.
//!             let _ = machine.communicator().run(failure.cx, "ls -l").await;
//!         }
//!         if failure.tries == 0 { Decision::RetryProvisioner } else { Decision::CleanUp }
//!     }
//! }
//!
//! let engine = Engine::new().failure_handler(OnceMore);
//! let report = engine.run(Pipeline::of([Build::new("web", builder).provision(flaky)])).await?;
//! assert!(report.succeeded());
//! # Ok(())
//! # }
//! ```
//!
//! # Tests of what was made
//!
//! What a provisioner sees is the machine that was changed. Whether the image starts, and with everything in it, a
//! [test](crate::Build::test) sees: a step in a machine that is started from the artifact and thrown away afterwards. Only
//! what passes goes to the post-processors. What does not is kept under another name, to look into:
//!
//! ```
//! # #[cfg(not(feature = "testing"))] fn main() {}
//! # #[cfg(feature = "testing")]
//! # #[tokio::main]
//! # async fn main() -> Result<(), Box<dyn std::error::Error>> {
//! # use packer_core::testing::{FakeBuilder, FakeProvisioner, TempFolder};
//! # let folder = TempFolder::new();
//! # let builder = FakeBuilder::new(folder.path()).boots();
//! # let shell = FakeProvisioner::run;
//! use packer_core::{Build, Engine, Pipeline, ProvisionerExt};
//!
//! let web = Build::new("web", builder)
//!     .provision(shell("echo hello > index.html"))
//!     .test(shell("grep -q hello index.html").named("the page is there"))
//!     .test(shell("test -e robots.txt").named("robots are told"));
//! let report = Engine::new().run(Pipeline::of([web])).await?;
//! let test = report.builds[0].test.as_ref().ok_or("it has tests")?;
//! assert!(!test.passed);
//! assert_eq!(test.steps.last().map(|step| step.name.as_str()), Some("robots are told"));
//! assert!(test.kept.as_ref().is_some_and(|name| name.ends_with("-failed-test")));
//! # Ok(())
//! # }
//! ```
//!
//! In a template it is a block `test` ([extensions](crate::template::extensions)). Builders that cannot start what they make,
//! as `file`, refuse such a build before anything runs.
//!
//! # What stays
//!
//! Artifacts are data: store them, send them, load them again. For runs that may be killed give the engine a folder
//! for ledgers: [`cache_and_recovery`](super::cache_and_recovery). There is the cache, too.
//!
//! [`Engine::plan`](crate::Engine::plan) says without side effects what a run would do;
//! [`template::schema`](crate::template::schema()) is a JSON Schema of everything registered, for editors;
//! [`template::fmt`](crate::template::fmt) and [`template::upgrade`](crate::template::upgrade) are `packer fmt`, `fix` and
//! `hcl2_upgrade` as functions, the last two with the feature `upgrade`.
