//! A provisioner from nothing; then a post-processor and a data source, which are written the same way.
//!
//! # A provisioner, whole
//!
//! It writes a file into the machine, rendered from a text with what is known about the machine.
//!
//! ```
//! use packer_core::config::{self, GoTemplate};
//! use packer_core::{
//!     CommunicatorExt, Context, Diagnostic, Diagnostics, Error, Machine, PrepareContext, Provisioner,
//!     Registry, Result, StepInputs, Value, async_trait,
//! };
//! use schemars::JsonSchema;
//! use serde::{Deserialize, Serialize};
//!
//! /// Writes a text into a file of the machine.
//! #[derive(Debug, Clone, Default, Deserialize, Serialize, JsonSchema)]
//! #[serde(default)]
//! struct Write {
//!     /// The path in the machine.
//!     path: String,
//!     /// The text. `{{ … }}` is rendered when the step runs: `{{.ID}}` is the machine's, `{{.Path}}` the path.
//!     text: GoTemplate,
//!     /// A command to run afterwards.
//!     then: String,
//! }
//!
//! #[async_trait]
//! impl Provisioner for Write {
//!     fn prepare(&self, _: &PrepareContext) -> Diagnostics {
//!         let mut found = Diagnostics::new();
//!         if self.path.is_empty() {
//!             found.push(Diagnostic::error("path is required").about("path"));
//!         }
//!         found
//!     }
//!
//!     async fn provision(&self, cx: &Context, machine: &dyn Machine) -> Result<()> {
//!         let text = self.text.render(cx, &[("Path", &self.path)])?;
//!         let communicator = machine.communicator();
//!         cx.say(format!("Writing {}", self.path));
//!         communicator.upload_bytes(cx, text.as_bytes(), &self.path).await?;
//!         if self.then.is_empty() {
//!             return Ok(());
//!         }
//!         // Shows what it prints, line by line.
//!         let status = communicator.run(cx, &self.then).await?;
//!         match status.success() {
//!             true => Ok(()),
//!             false => Err(Error::guest(format!("{:?} ended with {}", self.then, status.code()))),
//!         }
//!     }
//!
//!     /// A machine that runs no commands is refused before the build starts.
//!     fn runs_commands(&self) -> bool {
//!         !self.then.is_empty()
//!     }
//!
//!     /// Nothing but its configuration counts, and no files of this computer.
//!     fn inputs(&self) -> StepInputs {
//!         StepInputs::Files(Vec::new())
//!     }
//!
//!     fn config(&self) -> Option<Value> {
//!         config::to_value(self)
//!     }
//! }
//!
//! // provisioner "write" { path = "motd"  text = "welcome to {{.ID}}" }
//! let mut registry = Registry::new();
//! registry.provisioner::<Write>("write");
//!
//! # #[cfg(feature = "testing")]
//! # tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap().block_on(async {
//! // Its tests, in a crate that has packer-core's feature `testing` among its dev-dependencies:
//! use packer_core::testing::{self, FakeBuilder};
//! use packer_core::{Build, Engine, Pipeline, ProvisionerExt};
//!
//! let motd = Write { path: "motd".into(), text: "welcome to {{.ID}}".into(), then: "cat motd".into() };
//! testing::provisioner::suite(&motd).await;
//!
//! let (folder, heard) = (testing::TempFolder::new(), testing::Recorder::new());
//! let build = Build::new("web", FakeBuilder::new(folder.path())).provision(motd.max_retries(1));
//! let report = Engine::new().events(heard.clone()).run(Pipeline::of([build])).await.unwrap();
//! assert!(report.succeeded());
//! assert!(heard.lines().last().unwrap().starts_with("welcome to machine-"));
//! # });
//! ```
//!
//! # The rules
//!
//! - **Pauses, timeouts, retries and `continue_on_error` are the engine's.** A template has them on every provisioner; in
//!   code they stand behind it ([`ProvisionerExt`](crate::ProvisionerExt)). Do not write loops for them.
//! - **The second try finds the machine as the first one left it.** Write so that it bears that.
//! - **A timeout or a cancellation drops the future.** What must be undone on this computer belongs into the ledger:
//!   [`Context::temp_file`](crate::Context::temp_file), or [`Context::own`](crate::Context::own) together with
//!   [`Provisioner::release`](crate::Provisioner::release), which is idempotent like a builder's. What is in the machine goes
//!   with the machine, or stays in the image: remove files with credentials as early as possible.
//! - **An exit status is no error of the communicator**: it says how a command ended, and the provisioner decides.
//!   [`ExitStatus::Disconnected`](crate::ExitStatus::Disconnected) is its own case, for steps that reboot.
//! - **`prepare` has no machine.** It checks arguments and that local files are there.
//! - **One value may work on several machines at once**: keep the state of a run in local variables.
//! - **[`inputs`](crate::Provisioner::inputs) decides whether a finished step can be reused** by a
//!   [cache](super::cache_and_recovery#saved-steps). Say the files that are read and nothing else counts; say `Volatile`, the
//!   default, where more counts (the network, the time). [`config`](crate::Provisioner::config) is the other half of the
//!   key: without it the step is never reused.
//!
//! For scripts there is [`kit::shell`](crate::kit::shell): variables as Packer hands them over, escaping, exit codes that are
//! allowed, and [`LocalShell`](crate::kit::shell::LocalShell) for those that run on this computer.
//!
//! # A post-processor
//!
//! It gets an [`Artifact`](crate::Artifact) and gives one back. It never removes its input: whether that stays, the engine
//! decides from what [`Processed`](crate::Processed) asks for and what the user says with `keep_input_artifact`.
//!
//! ```
//! use std::io::Write as _;
//!
//! use packer_core::{Artifact, Context, Error, PostProcessor, Processed, Registry, Result, WholeFile, async_trait};
//! use schemars::JsonSchema;
//! use serde::Deserialize;
//!
//! /// Writes the names of an artifact's files into a file.
//! #[derive(Deserialize, JsonSchema)]
//! struct List {
//!     /// Where the list goes.
//!     output: String,
//! }
//!
//! #[async_trait]
//! impl PostProcessor for List {
//!     async fn post_process(&self, cx: &Context, artifact: Artifact) -> Result<Processed> {
//!         let mut list = WholeFile::create(cx, &self.output, 0o644)?;
//!         for file in &artifact.files {
//!             writeln!(list, "{}", file.display()).map_err(|e| Error::io("write", &self.output, e))?;
//!         }
//!         list.commit()?;
//!         // Beside its input, which stays unless the user says otherwise.
//!         Ok(Processed::beside(Artifact::new("example.list", "").file(&self.output)))
//!     }
//! }
//!
//! Registry::new().post_processor::<List>("list");
//! # #[cfg(feature = "testing")]
//! # tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap().block_on(async {
//! let folder = packer_core::testing::TempFolder::new();
//! let image = folder.path().join("image");
//! std::fs::write(&image, "x").unwrap();
//! let list = List { output: folder.path().join("list").display().to_string() };
//! let made = packer_core::testing::post_processor::suite(&list, &Artifact::new("test", "").file(&image)).await;
//! assert_eq!(std::fs::read_to_string(&list.output).unwrap(), format!("{}\n", image.display()));
//! # });
//! ```
//!
//! What the builder left in [`Artifact::generated_data`](crate::Artifact::generated_data) is in
//! [`Context::facts`](crate::Context::facts), and templates of the post-processor see it as `{{.ID}}` and as `build.ID`.
//! [`Processed::replacing`](crate::Processed::replacing) is for results that stand in their input's place,
//! [`needing_input`](crate::Processed::needing_input) for those that share what the input owns.
//!
//! # A data source
//!
//! It only reads, says beforehand of which type its value is, and owns nothing:
//!
//! ```
//! use packer_core::{Context, DataSource, Error, Registry, Result, Type, Value, async_trait};
//! use schemars::JsonSchema;
//! use serde::Deserialize;
//!
//! /// The lines of a file: `data.lines.NAME`.
//! #[derive(Deserialize, JsonSchema)]
//! struct Lines {
//!     /// The file.
//!     path: String,
//! }
//!
//! #[async_trait]
//! impl DataSource for Lines {
//!     fn output_type(&self) -> Type {
//!         Type::list(Type::String)
//!     }
//!
//!     async fn read(&self, _: &Context) -> Result<Value> {
//!         let text = std::fs::read_to_string(&self.path).map_err(|e| Error::io("open", &self.path, e))?;
//!         Ok(Value::list(Type::String, text.lines().map(Value::from)))
//!     }
//! }
//!
//! Registry::new().data_source::<Lines>("lines");
//! # #[cfg(feature = "testing")]
//! # tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap().block_on(async {
//! # let folder = packer_core::testing::TempFolder::new();
//! # let path = folder.path().join("lines");
//! # std::fs::write(&path, "a\nb\n").unwrap();
//! let lines = Lines { path: path.display().to_string() };
//! let value = packer_core::testing::data_source::suite(&lines).await;
//! assert_eq!(value.to_json().unwrap(), serde_json::json!(["a", "b"]));
//! # });
//! ```
