//! A builder from nothing: the whole of one, then each part of it and the rules that it follows.
//!
//! The builder of this page starts a machine from an image file. To keep it small its "machine" is only the disk, a copy of
//! the image in a folder, and with `communicator = "none"` nobody enters it; all that is said holds for one that
//! starts a hypervisor too, and [`virtual_machines`](super::virtual_machines) says what comes on top.
//!
//! # All of it
//!
//! ```
//! use std::borrow::Cow;
//! use std::fs::{self, File};
//! use std::io::ErrorKind;
//! use std::path::{Path, PathBuf};
//! use std::sync::Arc;
//!
//! use packer_core::communicator::{CommunicatorConfig, Target};
//! use packer_core::template::{Inputs, Template};
//! use packer_core::{
//!     Artifact, Builder, Communicator, Context, Diagnostic, Diagnostics, Engine, Error, Facts, Host, Machine,
//!     PrepareContext, Prepared, Registry, Resource, Result, Value, WholeFile, async_trait, config, kit,
//! };
//! use schemars::JsonSchema;
//! use serde::{Deserialize, Serialize};
//!
//! /// Starts machines from an image file. These fields are what a template's block may hold.
//! #[derive(Debug, Clone, Default, Deserialize, Serialize, JsonSchema)]
//! #[serde(default)]
//! struct Disk {
//!     /// The image to start from.
//!     base: String,
//!     /// Where the finished image goes.
//!     output: String,
//!     /// The folder for disks while they are built.
//!     work_dir: String,
//!     /// How the machine is entered: all options that Packer's builders have for that.
//!     #[serde(flatten)]
//!     communicator: CommunicatorConfig,
//! }
//!
//! #[async_trait]
//! impl Builder for Disk {
//!     async fn prepare(&self, cx: &PrepareContext) -> Result<Prepared, Diagnostics> {
//!         let mut found = self.communicator.prepare(cx);
//!         for (name, value) in [("base", &self.base), ("output", &self.output), ("work_dir", &self.work_dir)] {
//!             if value.is_empty() {
//!                 found.push(Diagnostic::error(format!("{name} is required")).about(name));
//!             }
//!         }
//!         if !cx.build.force && !self.output.is_empty() && Path::new(&self.output).exists() {
//!             let exists = Diagnostic::error(format!("{} exists", self.output)).about("output");
//!             found.push(exists.help("-force replaces it"));
//!         }
//!         if !found.has_errors() {
//!             found.extend(self.communicator.unsupported());
//!         }
//!         Prepared::of(found)
//!     }
//!
//!     async fn launch(&self, cx: &Context) -> Result<Box<dyn Machine>> {
//!         // The name is chosen before anything exists, and no two runs choose the same one.
//!         let name = kit::unique_name("disk");
//!         let disk = Path::new(&self.work_dir).join(&name);
//!         let resource = Resource::new("disk", &name)
//!             // What a later process makes the builder of that releases it.
//!             .with_config(serde_json::json!({ "work_dir": self.work_dir }));
//!         let (from, to, inner) = (self.base.clone(), disk.clone(), cx.clone());
//!         let copy = cx.blocking(move |stop| {
//!             let input = File::open(&from).map_err(|e| Error::io("open", &from, e))?;
//!             let size = input.metadata().ok().map(|m| m.len());
//!             let mut input = stop.reader(input, Some(inner.progress(&from, size)));
//!             let mut output = File::create_new(&to).map_err(|e| Error::io("create", &to, e))?;
//!             std::io::copy(&mut input, &mut output).map_err(|e| Error::io("copy", &from, e))
//!         });
//!         cx.step("copy the image", cx.own(resource, copy)).await?;
//!
//!         let target = Target::default(); // here: the address that the hypervisor gave the machine
//!         let communicator = cx.step("connect", self.communicator.connect(cx, &target)).await?;
//!         let facts = self.communicator.facts(&target).id(&name).with("DiskPath", &*disk.to_string_lossy());
//!         Ok(Box::new(Running { builder: self.clone(), disk, communicator, facts }))
//!     }
//!
//!     async fn release(&self, _: &Context, resource: &Resource) -> Result<()> {
//!         let path = Path::new(&self.work_dir).join(&resource.name);
//!         match fs::remove_file(&path) {
//!             Err(e) if e.kind() == ErrorKind::NotFound => Ok(()), // gone, or never there
//!             removed => removed.map_err(|e| Error::io("remove", &path, e)),
//!         }
//!     }
//!
//!     fn variables(&self) -> Vec<Cow<'static, str>> {
//!         vec!["DiskPath".into()]
//!     }
//!
//!     fn config(&self) -> Option<Value> {
//!         config::to_value(self)
//!     }
//! }
//!
//! /// A machine that is up: what is needed to finish.
//! struct Running {
//!     builder: Disk,
//!     disk: PathBuf,
//!     communicator: Arc<dyn Communicator>,
//!     facts: Facts,
//! }
//!
//! #[async_trait]
//! impl Machine for Running {
//!     fn communicator(&self) -> Arc<dyn Communicator> {
//!         self.communicator.clone()
//!     }
//!
//!     fn facts(&self) -> &Facts {
//!         &self.facts
//!     }
//!
//!     async fn capture(&self, cx: &Context) -> Result<Artifact> {
//!         let (disk, output, inner) = (self.disk.clone(), self.builder.output.clone(), cx.clone());
//!         let export = cx.blocking(move |stop| {
//!             // Beside its target, in the ledger as a file that the engine removes, renamed when it is whole.
//!             let mut image = WholeFile::create(&inner, &output, 0o644)?;
//!             let input = File::open(&disk).map_err(|e| Error::io("open", &disk, e))?;
//!             let mut input = stop.reader(input, Some(inner.progress(&output, None)));
//!             std::io::copy(&mut input, &mut image).map_err(|e| Error::io("copy", &disk, e))?;
//!             image.commit()
//!         });
//!         cx.step("export the image", export).await?;
//!         let output = &self.builder.output;
//!         Ok(Artifact::new("example.disk", output).describe(format!("Image: {output}")).file(output))
//!     }
//! }
//!
//! # #[tokio::main]
//! # async fn main() -> std::result::Result<(), Box<dyn std::error::Error>> {
//! # let folder = tempfile::tempdir()?;
//! # let at = |name: &str| folder.path().join(name).display().to_string();
//! # fs::write(at("base.img"), "an image")?;
//! # let (base, output, work_dir) = (at("base.img"), at("out.img"), at(""));
//! // In a template, under the name that it is registered by.
//! let mut registry = Registry::new();
//! registry.builder::<Disk>("disk");
//! let text = r#"
//!   variable "folder" {}
//!   source "disk" "web" {
//!     communicator = "none"
//!     base         = "${var.folder}/base.img"
//!     output       = "${var.folder}/out.img"
//!     work_dir     = var.folder
//!   }
//!   build { sources = ["disk.web"] }
//! "#;
//! let template = Template::from_texts([("web.pkr.hcl", text)])?;
//! let pipeline = template.evaluate(&registry, Inputs::new().var("folder", &work_dir)).await?;
//! let report = Engine::new().run(pipeline).await?;
//! assert!(report.succeeded(), "{:?}", report.builds[0].error);
//! assert_eq!(fs::read_to_string(&output)?, "an image");
//! assert_eq!(fs::read_dir(&work_dir)?.count(), 2, "the disk is gone");
//!
//! # #[cfg(feature = "testing")] {
//! // And the proof that it keeps the rules, for its tests (feature `testing` of packer-core).
//! let make = || Disk {
//!     base: base.clone(),
//!     output: at(&kit::unique_name("out")),
//!     work_dir: work_dir.clone(),
//!     communicator: CommunicatorConfig::none(),
//! };
//! packer_core::testing::builder::suite(make, &Host::new()).await;
//! packer_core::testing::builder::recovers(make, &registry, &Host::new()).await;
//! # }
//! # Ok(())
//! # }
//! ```
//!
//! # The struct is the configuration
//!
//! - `Deserialize` and `JsonSchema` make it a block of a template, with conversions, "did you mean" for unknown names, and
//!   places in messages. The documentation comments of the fields are those of `packer schema`.
//! - A field without a default in serde's sense is required by the schema. Most components give everything a default and
//!   check in `prepare`, which can say all that is missing at once, and why.
//! - Texts are rendered as `{{ … }}` when the block is decoded, except fields of the type
//!   [`GoTemplate`](crate::config::GoTemplate), which the component renders itself when it runs, with variables of its own
//!   ([`GoTemplate::render`](crate::config::GoTemplate::render)): a shutdown command, names with `{{.Name}}`.
//! - Times are [`GoDuration`](crate::GoDuration) (`"1m30s"`), passwords [`Secret`](crate::Secret), a list that may be
//!   written as its only element needs nothing special in templates. A field that is a struct is a nested block, a list
//!   of structs any number of blocks; [`Schema::of`](crate::config::Schema::of) has the marks for what differs.
//! - `#[serde(flatten)]` shares options between builders. [`CommunicatorConfig`](crate::CommunicatorConfig) is such a
//!   struct; a family of builders may have one of its own.
//! - In code the struct is the constructor: give it `new` and setters where that reads better.
//!
//! # `prepare`
//!
//! Looks, and changes nothing: no file is made, no API is called that costs something. It runs for every build before any
//! starts, and for `validate`. [`PrepareContext`](crate::PrepareContext) has what is known of the build
//! ([`force`](crate::BuildInfo::force), its name) and what the host lends. Report everything wrong at once, as
//! [`Diagnostic`](crate::Diagnostic)s; [`about`](crate::Diagnostic::about) names the argument (`drive[1].size`), and so the line
//! of the template. What the user should know although the build can run goes into
//! [`Prepared::warnings`](crate::Prepared::warnings). Values that are not known yet (another build's artifact) arrive as
//! placeholders, such as the text `<unknown>`: check their form leniently, the component is made again with the real values
//! and prepared again before it runs.
//!
//! # The ledger comes first
//!
//! [`Context::own`](crate::Context::own) writes the resource down, durably where the ledger is a file, and then runs the
//! future that creates it. There is no other order in which a crash between the two leaves nothing behind. Three rules follow:
//!
//! 1. **The name is chosen before the create call** ([`kit::unique_name`](crate::kit::unique_name)), and the call uses it. An id that only the answer tells is lost when the
//!    answer is. Where an API gives no choice of names, pass a tag or a client token and find the thing by that.
//! 2. **The entry says all that releasing needs**: the name, [`details`](crate::Resource::with_details) for what else there
//!    is (a region, the path of a socket), and [`config`](crate::Resource::with_config) for a later process, which decodes
//!    it into the builder as if it were its block. A field without a default must be in it, a secret must not: the later
//!    process takes credentials from what its host lends.
//! 3. **What becomes known later is recorded again** under the same id: [`Context::record`](crate::Context::record) replaces
//!    the entry in its place. So the id of the answer is added as soon as it is there.
//!
//! Files and folders are [`Resource::file`](crate::Resource::file) and [`Resource::directory`](crate::Resource::directory):
//! the engine removes those itself, in a later process too. For temporary ones there are
//! [`Context::temp_dir`](crate::Context::temp_dir) and [`Context::temp_file`](crate::Context::temp_file).
//!
//! A component that destroys or gives away a resource itself says so with [`Context::released`](crate::Context::released).
//!
//! # `release`
//!
//! Is called for each entry that is left, newest first: after success, after failure, after cancellation at any await
//! point, and by `recover` in another process.
//!
//! - It is **idempotent**: what is gone, or never came to be, is success. Cancellation may have dropped the create call
//!   before it was sent, or after.
//! - It uses nothing that `launch` left in memory: only `self`, the resource, and the context.
//! - It waits until the thing is really gone where something else depends on that (a network whose machine still stops).
//! - An error that is [retryable](crate::Error::is_retryable) is tried again a few times; any other leaves the resource in
//!   the ledger and in the report.
//!
//! # The machine
//!
//! [`Machine`](crate::Machine)'s fields hold, typed, what `launch` found out. [`Facts`](crate::Facts) are that for templates:
//! [`CommunicatorConfig::facts`](crate::CommunicatorConfig::facts) gives `Host`, `Port`, `User` and their like, the builder adds `ID`
//! and its own. The names of its own ones are listed by [`Builder::variables`](crate::Builder::variables), so that a
//! template may use `build.DiskPath` before there is a machine. Values that are secret are made so:
//! `Value::from(text).sensitive()`.
//!
//! `capture` makes the artifact. What it creates goes through [`Context::own`](crate::Context::own) too. What is to stay, it
//! lists: files by [`Artifact::file`](crate::Artifact::file), everything else by [`Artifact::owning`](crate::Artifact::owning) with
//! the resource. Whatever is not listed is released behind it. What post-processors may want to know goes into
//! [`metadata`](crate::Artifact::with) and, under the names of `build.*`, into
//! [`generated_data`](crate::Artifact::generated_data).
//!
//! # Steps, words and progress
//!
//! [`Context::step`](crate::Context::step) names a piece of work: it is timed, shown in the timeline and in the report, named in
//! errors, ended by cancellation, and a point to pause at under `-debug`. Steps may hold steps.
//! [`say`](crate::Context::say) is a line for people. [`progress`](crate::Context::progress) tells of long work;
//! [`output`](crate::Context::output) shows a line that some program printed, and
//! [`LineWriter`](crate::communicator::LineWriter) makes such lines of a stream.
//!
//! # Registering
//!
//! [`Registry::builder`](crate::Registry::builder) gives it the name by which templates know it. A crate of builders offers one
//! function that registers all of its own, as `packer_builders::register` does. The same registry is what
//! [`recover`](crate::Engine::recover) and the [cache](crate::engine::Cache) make builders with.
//!
//! # The suite
//!
//! [`testing::builder::suite`](crate::testing::builder::suite) runs the builder some dozens of times: to its end, with a
//! provisioner that fails, and cancelled at every event; each time nothing may be left, and everything must bear being
//! released twice. [`recovers`](crate::testing::builder::recovers) releases what an aborted run left, from the
//! ledger alone. A builder that passes both has its cleanup right. One that saves states of its machines has a third,
//! [`checkpoints`](crate::testing::checkpoints). The feature `testing` belongs into `[dev-dependencies]`.
//!
//! # Tests of what it makes
//!
//! A builder that can start what it has made implements [`BootTest`](crate::BootTest) too and returns itself from
//! [`boot_test`](crate::Builder::boot_test). `boot` is a second `launch`, from the artifact and on something that is thrown away:
//! an overlay, a container, a copy. `set_aside` renames what did not pass;
//! [`kit::failed_test_name`](crate::kit::failed_test_name) has a name for a file. Where the configuration rules tests out,
//! `prepare` says why in [`Prepared::no_boot_test`](crate::builder::Prepared::no_boot_test). Its suite is
//! [`boot_test`](crate::testing::boot_test).
//!
//! # Where to go on
//!
//! [`virtual_machines`](super::virtual_machines) for what a hypervisor needs;
//! [`cache_and_recovery`](super::cache_and_recovery#checkpoints-in-a-builder-of-ones-own) for saved steps.
