//! What outlives a run: ledgers of runs that died, and saved states of machines.
//!
//! # Recovery
//!
//! An engine keeps its ledger in memory unless it is given one. That is enough for cleanup after success, failure and
//! cancellation. For a process that may be killed, or a computer that may lose power, give the engine a
//! [`LedgerFolder`](crate::LedgerFolder): each run writes a file of its own there, which goes when nothing is left in it. A later
//! process releases what is in those that stayed, through the same [`release`](crate::Builder::release) as the run itself
//! would have, and leaves those of runs that go on alone.
//!
//! ```
//! # #[cfg(not(feature = "testing"))] fn main() {}
//! # #[cfg(feature = "testing")]
//! # #[tokio::main]
//! # async fn main() -> Result<(), Box<dyn std::error::Error>> {
//! # use packer_core::testing::{FakeBuilder, FakeProvisioner, TempFolder};
//! # let folder = TempFolder::new();
//! # let (world, path) = (folder.path().join("world"), folder.path().join("ledger"));
//! # std::fs::create_dir(&world)?;
//! use packer_core::{Build, Engine, LedgerFolder, OnError, Pipeline, Registry};
//!
//! // The components that later processes will know, by the names they are registered by.
//! let mut registry = Registry::new();
//! registry.builder::<FakeBuilder>("fake-builder");
//! let ledgers = LedgerFolder::at(path);
//!
//! // A run that leaves its machine: here because it was told to; a killed one leaves the same.
//! let build = Build::new("web", FakeBuilder::new(&world)).provision(FakeProvisioner::run("exit 1"));
//! let engine = Engine::new().ledger_folder(ledgers.clone()).registry(registry.clone());
//! let report = engine.on_error(OnError::Abort).run(Pipeline::of([build])).await?;
//! assert_eq!(report.left().count(), 2, "a key and a machine");
//!
//! // Later, in another process.
//! let report = Engine::new().recover_all(&ledgers, &registry).await?;
//! assert!(report.all_gone());
//! assert_eq!(report.ledgers[0].report.released.len(), 2);
//! # Ok(())
//! # }
//! ```
//!
//! - [`Engine::registry`](crate::Engine::registry) makes the engine check each resource when it is recorded, before it is
//!   created: one that a later process could not release is an error then, and not when it is too late.
//! - [`Engine::release_limit`](crate::Engine::release_limit) bounds how long one release may take, so that an API that hangs
//!   does not keep the others.
//! - [`Engine::recovery`](crate::Engine::recovery) is the same with a handle that cancels it.
//! - A single [`FileLedger`](crate::FileLedger) is given with [`Engine::ledger`](crate::Engine::ledger) and recovered with
//!   [`Engine::recover`](crate::Engine::recover).
//!
//! What cannot be released (a component that is not registered, an API that is down) stays in its ledger and is listed in the
//! report, each time until it is gone. Recovery may be repeated and interrupted. A line of a ledger that cannot be read is
//! a fault in the report and hides nothing else; what such a line mentions is left alone.
//!
//! An artifact leaves the ledger, as a whole, when the component that makes it returns it: a process that is killed after that
//! leaves it in place, one that is killed before leaves nothing of it once a later one has recovered.
//!
//! **Files inside a machine** that a provisioner takes out again (scripts, files of variables) are in the ledger too. They go with
//! the machine. Where the machine was there before the build and is somebody else's, a later process cannot enter it, since the ledger
//! holds no passwords: it names them once, in the report and as an event, and strikes them out.
//!
//! **Local programs** ([`kit::process`](crate::kit::process)), scripts of `shell-local` among them, are in the ledger before they
//! exist and are ended with all they started, on Linux by a mark in their environment. On other systems a program's process
//! group (on Windows its tree) is killed when the work ends early, is cancelled or fails; what a process that is itself killed with
//! `kill -9` leaves running there, no ledger knows.
//!
//! In code a builder's name in the ledger is its [`type_name`](crate::Builder::type_name), the struct's name in kebab case unless
//! it says otherwise; from a template it is the name it was registered by. Register it for recovery by the name that is in
//! the ledger. What a builder has to do for all this is told under
//! [the ledger comes first](super::builder#the-ledger-comes-first).
//!
//! # Saved steps
//!
//! With a [`Cache`](crate::engine::Cache) the engine saves the state of the machine behind each provisioner, and a later run starts
//! from the last state that is still right. A build that failed in its fifth step goes on there; a change in the last
//! step repeats only that.
//!
//! The key of a state is a hash over the builder's [configuration](crate::Builder::config) (without its
//! [capture arguments](crate::Builder::capture_arguments)), the [digest](crate::Builder::source_digest) of what it starts
//! from, and for each step so far its type, its configuration and the content of the files that its
//! [`inputs`](crate::Provisioner::inputs) name. A step is run, and with it all behind it, when one of these cannot be known:
//! the provisioner's inputs are `Volatile`, its configuration refers to `build.ID` or to the time. Names, pauses,
//! timeouts and retries do not count.
//!
//! A user who knows better says `inputs = [...]` or `volatile = true` in the template
//! ([extensions](crate::template::extensions)), or [`ProvisionStep::inputs`](crate::ProvisionStep::inputs) in code.
//!
//! [`Engine::plan`](crate::Engine::plan) says beforehand what would be reused and why not, and
//! [`BuildReport::cache`](crate::engine::BuildReport::cache) what was. [`Cache::list`](crate::engine::Cache::list) and
//! [`prune`](crate::engine::Cache::prune) show and release states; at the end of each run the cache prunes itself to its limits.
//! Whatever is wrong with a cache is told as an event, and the build runs as without one.
//!
//! What a cache remembers of secrets are keyed digests: enough to see that one changed, and a reason never shows either
//! value. Its folder, index and states may be read by their owner only; a state holds what the machine's disk holds, and that of
//! a [virtual machine](super::virtual_machines) what its memory holds too.
//!
//! # Checkpoints in a builder of one's own
//!
//! The engine does all of the above for a builder that can save and restore a state. It is a matter of these methods, all of
//! them with defaults that say "I cannot":
//!
//! ```
//! # #[cfg(not(all(unix, feature = "testing")))] fn main() {}
//! # #[cfg(all(unix, feature = "testing"))]
//! # #[tokio::main]
//! # async fn main() -> Result<(), Box<dyn std::error::Error>> {
//! # use std::path::{Path, PathBuf};
//! # use std::sync::Arc;
//! # use packer_core::testing::{FakeProvisioner, LocalMachine, TempFolder};
//! # use packer_core::{
//! #     Artifact, Build, Builder, CheckpointKey, Communicator, Context, Diagnostics, Engine, Error, Facts, Machine,
//! #     Pipeline, PrepareContext, Prepared, Registry, Resource, Result, Value, async_trait, config, engine::Cache, kit,
//! # };
//! # use serde::{Deserialize, Serialize};
//! # use schemars::JsonSchema;
//! # #[derive(Debug, Clone, Default, Deserialize, Serialize, JsonSchema)]
//! # #[serde(default)]
//! # struct Folder { world: PathBuf, base: PathBuf, output: PathBuf }
//! # impl Folder {
//! #     fn resource(&self, kind: &str) -> (Resource, PathBuf) {
//! #         let name = kit::unique_name(kind);
//! #         let path = self.world.join(&name);
//! #         (Resource::new(kind, name).with_config(serde_json::json!({ "world": self.world })), path)
//! #     }
//! #     async fn machine(&self, cx: &Context, from: &Path) -> Result<Box<dyn Machine>> {
//! #         let (resource, path) = self.resource("machine");
//! #         cx.own(resource, copy_tree(cx, from, &path)).await?;
//! #         Ok(Box::new(Open { builder: self.clone(), path, facts: Facts::new() }))
//! #     }
//! # }
//! # async fn copy_tree(cx: &Context, from: &Path, to: &Path) -> Result<()> {
//! #     let copy = kit::process::Program::new("cp").args(["-r", "-T"]).arg(from).arg(to);
//! #     copy.capture(cx, 64 * 1024).await?.success().map(drop)
//! # }
//! # struct Open { builder: Folder, path: PathBuf, facts: Facts }
//! #[async_trait]
//! impl Builder for Folder {
//!     /// What the machine starts from, as content. Without it nothing is reused.
//!     async fn source_digest(&self, cx: &Context) -> Result<Option<String>> {
//!         kit::digest_files(cx, [&self.base]).await.map(Some)
//!     }
//!
//!     /// The other half of the key.
//!     fn config(&self) -> Option<Value> {
//!         config::to_value(self)
//!     }
//!
//!     /// Only `capture` looks at these: a change of them costs no step.
//!     fn capture_arguments(&self) -> &'static [&'static str] {
//!         &["output"]
//!     }
//!
//!     /// A machine from a saved state, which stays as it is: others start from it too, perhaps now.
//!     async fn resume(&self, cx: &Context, checkpoint: &Resource) -> Result<Box<dyn Machine>> {
//!         self.machine(cx, &self.world.join(&checkpoint.name)).await
//!     }
//!
//!     async fn checkpoint_exists(&self, _: &Context, checkpoint: &Resource) -> Result<bool> {
//!         Ok(self.world.join(&checkpoint.name).exists())
//!     }
//!
//!     /// Machines and checkpoints alike; also called when the cache is pruned.
//!     async fn release(&self, _: &Context, resource: &Resource) -> Result<()> {
//!         // …
//! #       match std::fs::remove_dir_all(self.world.join(&resource.name)) {
//! #           Err(e) if e.kind() != std::io::ErrorKind::NotFound => Err(Error::io("remove", &resource.name, e)),
//! #           _ => Ok(()),
//! #       }
//!     }
//!     // prepare and launch as ever
//! #   async fn prepare(&self, _: &PrepareContext) -> Result<Prepared, Diagnostics> { Ok(Prepared::new()) }
//! #   async fn launch(&self, cx: &Context) -> Result<Box<dyn Machine>> { self.machine(cx, &self.base).await }
//! }
//!
//! #[async_trait]
//! impl Machine for Open {
//!     /// The machine goes on afterwards as if nothing had happened.
//!     async fn checkpoint(&self, cx: &Context, _: &CheckpointKey) -> Result<Option<Resource>> {
//!         // In the ledger first, under a name of its own; the engine strikes it out when it is listed in the cache.
//!         let (resource, path) = self.builder.resource("checkpoint");
//!         cx.own(resource.clone(), copy_tree(cx, &self.path, &path)).await?;
//!         Ok(Some(resource)) // with `details.size`, where the size is known
//!     }
//!     // communicator, facts and capture as ever
//! #   fn communicator(&self) -> Arc<dyn Communicator> { Arc::new(LocalMachine::new(&self.path)) }
//! #   fn facts(&self) -> &Facts { &self.facts }
//! #   async fn capture(&self, cx: &Context) -> Result<Artifact> {
//! #       copy_tree(cx, &self.path, &self.builder.output).await?;
//! #       Ok(Artifact::new("example.folder", "").file(self.builder.output.join("log")))
//! #   }
//! }
//!
//! # let folder = TempFolder::new();
//! # let at = |name: &str| folder.path().join(name);
//! # std::fs::create_dir(at("world"))?;
//! # std::fs::create_dir(at("base"))?;
//! # std::fs::write(at("base").join("release"), "base 12.4")?;
//! // The registry makes builders that release pruned states, from `Resource::config`.
//! let mut registry = Registry::new();
//! registry.builder::<Folder>("folder");
//! let engine = Engine::new().cache(Cache::new(at("cache"), registry));
//!
//! for (output, last, reused) in [("first", "echo b >> log", 0), ("second", "echo c >> log", 1)] {
//!     let builder = Folder { world: at("world"), base: at("base"), output: at(output) };
//!     let build = Build::new("web", builder)
//!         .provision(FakeProvisioner::run("echo a >> log"))
//!         .provision(FakeProvisioner::run(last));
//!     let report = engine.run(Pipeline::of([build])).await?;
//!     assert_eq!(report.builds[0].cache.as_ref().unwrap().reused(), reused);
//! }
//! assert_eq!(std::fs::read_to_string(at("second").join("log"))?, "a\nc\n");
//! # Ok(())
//! # }
//! ```
//!
//! [`testing::checkpoints::suite`](crate::testing::checkpoints::suite) proves it, beside the suite of builders: states are started
//! from again and again, by several at once, after the machine has gone, and nothing but `release` destroys them.
//!
//! - **A state must be whole.** What the machine has only in memory is not in the copy of its disk: flush the
//!   machine's file systems before (`sync` through the communicator), or save memory too.
//! - **Chained disks** (a copy-on-write overlay for each step) are cheap, but then a base must outlive what lies on it: say in
//!   `release` that it is still in use (an error that is retryable), or flatten.
//! - [`capture_checkpoint`](crate::Builder::capture_checkpoint) makes the artifact of a state without a machine, for builds of
//!   which every step is saved; without it a machine is started and captured. `docker` does so, and `oci` for images with a
//!   layer per provisioner.
//! - **An error of `resume`** makes the engine release the checkpoint and start from an earlier one or from the source; one
//!   that is [retryable](crate::Error::is_retryable) leaves the checkpoint.
//! - **Facts of the machine** may differ after `resume` (another port); nothing of the old one is used.
//! - A builder whose machine holds secrets in its disk while it runs saves them too. Say so to its users.
//! - Keys per step are kept apart from names on purpose: two processes may save the same state at once, and one of the two is
//!   released again.
