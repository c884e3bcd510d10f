//! Fakes of components: a builder whose machines are folders, and steps that do or fail what a test wants.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use async_trait::async_trait;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::LocalMachine;
use crate::artifact::Artifact;
use crate::builder::{BootTest, Builder, CheckpointKey, Lifecycle, Machine, Prepared};
use crate::communicator::{Communicator, CommunicatorExt};
use crate::context::{Context, PrepareContext};
use crate::diagnostic::{Diagnostic, Diagnostics};
use crate::error::{Error, Result};
use crate::facts::Facts;
use crate::kit::blocking::Stop;
use crate::ledger::Resource;
use crate::post_processor::{Keep, PostProcessor, Processed};
use crate::provisioner::{Provisioner, StepInputs};
use crate::secrets::Secret;
use crate::value::Value;

/// What goes wrong with a fake.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Trouble {
    /// It returns an error.
    Fail,
    /// It returns an error, in the middle of its work.
    FailHalfway,
    /// It never returns.
    Hang,
    /// It never returns, in the middle of its work.
    HangHalfway,
    /// It panics.
    Panic,
}

impl Trouble {
    async fn strike(trouble: Option<Self>, halfway: bool, what: &str) -> Result<()> {
        match (trouble, halfway) {
            (Some(Self::Fail), false) | (Some(Self::FailHalfway), true) => {
                Err(Error::provider(format!("{what} failed")))
            }
            (Some(Self::Hang), false) | (Some(Self::HangHalfway), true) => std::future::pending().await,
            (Some(Self::Panic), false) => panic!("{what} panicked on purpose"),
            _ => Ok(()),
        }
    }
}

/// Where something goes wrong with a [`FakeBuilder`].
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Verb {
    /// In `prepare`.
    Prepare,
    /// In `launch`.
    Launch,
    /// In `capture`.
    Capture,
    /// In `release`.
    Release,
    /// In `checkpoint`.
    Checkpoint,
    /// In `resume`.
    Resume,
    /// In `boot`.
    Boot,
    /// In `set_aside`.
    SetAside,
}

/// A builder whose machines are folders and whose images are files, all below one folder.
///
/// A launch makes `machine-N` and a key file, a capture makes `image-N`, a checkpoint `checkpoint-N`; what is released is
/// gone. What [keeps the tree](Self::boots) of its machine in an image is booted as `machine-N`, and is called
/// `image-N-failed-test` when it did not pass. Everything is owned through the ledger, and a later process can release it.
#[derive(Debug, Clone, Default, Serialize, Deserialize, JsonSchema)]
pub struct FakeBuilder {
    /// The folder in which machines and images are made.
    pub folder: PathBuf,
    #[serde(default)]
    trouble: BTreeMap<Verb, Trouble>,
    #[serde(default)]
    flat: bool,
    /// What machines start from; its own digest.
    #[serde(default)]
    source: Option<String>,
    /// A folder that may not exist before, and that images are written into.
    #[serde(default)]
    output: Option<PathBuf>,
    #[serde(default)]
    captures_checkpoints: bool,
    #[serde(default)]
    boots: bool,
    #[serde(skip)]
    calls: Arc<Mutex<Vec<String>>>,
}

impl FakeBuilder {
    /// A builder that works below this folder.
    pub fn new(folder: impl Into<PathBuf>) -> Self {
        Self { folder: folder.into(), ..Self::default() }
    }

    /// Makes something go wrong.
    #[must_use]
    pub fn trouble(mut self, verb: Verb, trouble: Trouble) -> Self {
        self.trouble.insert(verb, trouble);
        self
    }

    /// Makes machines of [`Lifecycle::Flat`].
    #[must_use]
    pub fn flat(mut self) -> Self {
        self.flat = true;
        self
    }

    /// Makes machines start from this, whose digest it is too, so that their states can be saved and used again.
    #[must_use]
    pub fn source(mut self, source: impl Into<String>) -> Self {
        self.source = Some(source.into());
        self
    }

    /// Writes the image into this folder, which may not exist before.
    #[must_use]
    pub fn output(mut self, folder: impl Into<PathBuf>) -> Self {
        self.output = Some(folder.into());
        self
    }

    /// Makes images of saved states without starting a machine.
    #[must_use]
    pub fn captures_checkpoints(mut self) -> Self {
        self.captures_checkpoints = true;
        self
    }

    /// Makes images that are folders, the machine's tree, from which machines can be started anew for tests.
    #[must_use]
    pub fn boots(mut self) -> Self {
        self.boots = true;
        self
    }

    /// What was called so far, in order: `launch`, `resume`, `checkpoint`, `capture`, `capture_checkpoint`, `boot`, `set_aside`,
    /// `release KIND`.
    pub fn calls(&self) -> Vec<String> {
        self.calls.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// What exists below the folder of machines and images, by name.
    pub fn world(&self) -> Vec<String> {
        let mut names: Vec<String> = std::fs::read_dir(&self.folder)
            .map(|entries| entries.flatten().map(|e| e.file_name().to_string_lossy().into_owned()).collect())
            .unwrap_or_default();
        names.sort();
        names
    }

    fn called(&self, what: impl Into<String>) {
        self.calls.lock().unwrap_or_else(PoisonError::into_inner).push(what.into());
    }

    async fn struck(&self, verb: Verb, halfway: bool) -> Result<()> {
        let what = format!("{verb:?}").to_lowercase();
        Trouble::strike(self.trouble.get(&verb).copied(), halfway, &what).await
    }

    /// Writes an image.
    async fn image(&self, cx: &Context, number: &str) -> Result<Artifact> {
        let name = format!("image-{number}");
        let path = self.output.as_ref().unwrap_or(&self.folder).join(&name);
        let tree = self.folder.join(format!("machine-{number}"));
        let write = async {
            if self.boots && tree.is_dir() {
                let to = path.clone();
                cx.blocking(move |stop| copied(&tree, &to, stop)).await?;
            } else {
                std::fs::write(&path, "image").map_err(|e| Error::io("write", &path, e))?;
            }
            self.struck(Verb::Capture, true).await
        };
        let mut artifact = Artifact::new("test.fake", &name).describe(format!("Image: {name}"));
        if let Some(folder) = &self.output {
            let make = async { std::fs::create_dir(folder).map_err(|e| Error::io("mkdir", folder, e)) };
            cx.own(Resource::directory(folder), make).await?;
            write.await?;
            artifact = artifact.file(&path);
        } else {
            let image = self.resource("image", &name);
            cx.own(image.clone(), write).await?;
            artifact = artifact.owning(image);
        }
        artifact.generated_data.insert("ID".to_owned(), number.into());
        Ok(artifact)
    }

    fn machine(&self, number: String) -> Box<dyn Machine> {
        let name = format!("machine-{number}");
        let communicator = LocalMachine::new(self.folder.join(&name));
        Box::new(FakeMachine { builder: self.clone(), number, facts: Facts::new().id(&name), communicator })
    }

    fn resource(&self, kind: &str, name: &str) -> Resource {
        let config = serde_json::json!({ "folder": self.folder });
        Resource::new(kind, name)
            .with_details(serde_json::json!({ "path": self.folder.join(name) }))
            .with_config(config)
    }
}

#[async_trait]
impl Builder for FakeBuilder {
    async fn prepare(&self, _: &PrepareContext) -> Result<Prepared, Diagnostics> {
        match self.struck(Verb::Prepare, false).await {
            Ok(()) => Ok(Prepared::new()),
            Err(e) => Err(Diagnostic::error(e.to_string()).into()),
        }
    }

    async fn launch(&self, cx: &Context) -> Result<Box<dyn Machine>> {
        self.called("launch");
        self.struck(Verb::Launch, false).await?;
        if let Some(output) = self.output.as_ref().filter(|output| output.exists()) {
            return Err(Error::user(format!("{} exists", output.display())));
        }
        let number = uuid::Uuid::new_v4().simple().to_string();
        let (key, machine) = (format!("key-{number}"), format!("machine-{number}"));
        let (key_path, path) = (self.folder.join(&key), self.folder.join(&machine));
        cx.step("create key", async {
            cx.own(self.resource("key", &key), async {
                std::fs::write(&key_path, "key").map_err(|e| Error::io("write", &key_path, e))
            })
            .await
        })
        .await?;
        self.struck(Verb::Launch, true).await?;
        cx.step("create machine", async {
            cx.own(self.resource("machine", &machine), async {
                std::fs::create_dir_all(&path).map_err(|e| Error::io("mkdir", &path, e))
            })
            .await
        })
        .await?;
        Ok(self.machine(number))
    }

    async fn resume(&self, cx: &Context, checkpoint: &Resource) -> Result<Box<dyn Machine>> {
        self.called("resume");
        self.struck(Verb::Resume, false).await?;
        let number = uuid::Uuid::new_v4().simple().to_string();
        let name = format!("machine-{number}");
        let (from, to) = (self.folder.join(&checkpoint.name), self.folder.join(&name));
        cx.own(self.resource("machine", &name), cx.blocking(move |stop| copied(&from, &to, stop))).await?;
        self.struck(Verb::Resume, true).await?;
        Ok(self.machine(number))
    }

    async fn checkpoint_exists(&self, _: &Context, checkpoint: &Resource) -> Result<bool> {
        Ok(self.folder.join(&checkpoint.name).exists())
    }

    async fn capture_checkpoint(&self, cx: &Context, checkpoint: &Resource) -> Result<Option<Artifact>> {
        if !self.captures_checkpoints {
            return Ok(None);
        }
        self.called("capture_checkpoint");
        self.struck(Verb::Capture, false).await?;
        let state = self.folder.join(&checkpoint.name);
        std::fs::metadata(&state).map_err(|e| Error::io("open", &state, e))?;
        self.image(cx, &uuid::Uuid::new_v4().simple().to_string()).await.map(Some)
    }

    fn boot_test(&self) -> Option<&dyn BootTest> {
        self.boots.then_some(self)
    }

    async fn source_digest(&self, _: &Context) -> Result<Option<String>> {
        Ok(self.source.clone())
    }

    /// What goes wrong is no part of it: a test may mend that between two runs.
    fn config(&self) -> Option<Value> {
        Some(Value::object([("folder", Value::text(&self.folder.to_string_lossy()))]))
    }

    async fn release(&self, _: &Context, resource: &Resource) -> Result<()> {
        self.called(format!("release {}", resource.kind));
        self.struck(Verb::Release, false).await?;
        let path = resource.details["path"].as_str().unwrap_or_default();
        remove(Path::new(path))
    }
}

#[async_trait]
impl BootTest for FakeBuilder {
    async fn boot(&self, cx: &Context, artifact: &Artifact) -> Result<Box<dyn Machine>> {
        self.called("boot");
        self.struck(Verb::Boot, false).await?;
        let number = uuid::Uuid::new_v4().simple().to_string();
        let name = format!("machine-{number}");
        let image = artifact.files.first().cloned().unwrap_or_else(|| self.folder.join(&artifact.id));
        let to = self.folder.join(&name);
        // What a saved state was made into has no tree.
        let copy = cx.blocking(move |stop| match image.is_dir() {
            true => copied(&image, &to, stop),
            false => std::fs::create_dir_all(&to).map_err(|e| Error::io("mkdir", &to, e)),
        });
        cx.own(self.resource("machine", &name), copy).await?;
        self.struck(Verb::Boot, true).await?;
        Ok(self.machine(number))
    }

    async fn set_aside(&self, cx: &Context, mut artifact: Artifact) -> Result<Artifact> {
        self.called("set_aside");
        self.struck(Verb::SetAside, false).await?;
        let name = format!("{}-failed-test", artifact.id);
        let (from, to) = match artifact.files.first() {
            Some(image) => (image.clone(), image.with_file_name(&name)),
            None => (self.folder.join(&artifact.id), self.folder.join(&name)),
        };
        let rename = async { std::fs::rename(&from, &to).map_err(|e| Error::io("rename", &from, e)) };
        if artifact.files.is_empty() {
            let kept = self.resource("image", &name);
            cx.own(kept.clone(), rename).await?;
            artifact.resources = vec![kept];
        } else {
            cx.own(Resource::file(&to), rename).await?;
            artifact.files = vec![to];
        }
        self.struck(Verb::SetAside, true).await?;
        artifact.id = name;
        Ok(artifact)
    }
}

/// Copies a folder. Not as async work, of which the last call goes on when nobody waits for it any more: cleanup would not
/// find what it makes.
fn copied(from: &Path, to: &Path, stop: &Stop) -> Result<()> {
    std::fs::create_dir_all(to).map_err(|e| Error::io("mkdir", to, e))?;
    for entry in std::fs::read_dir(from).map_err(|e| Error::io("open", from, e))? {
        stop.check()?;
        let entry = entry.map_err(|e| Error::io("read", from, e))?;
        let (path, copy) = (entry.path(), to.join(entry.file_name()));
        match entry.file_type().is_ok_and(|kind| kind.is_dir()) {
            true => copied(&path, &copy, stop)?,
            false => std::fs::copy(&path, &copy).map(drop).map_err(|e| Error::io("copy", &path, e))?,
        }
    }
    Ok(())
}

fn remove(path: &Path) -> Result<()> {
    let removed = if path.is_dir() { std::fs::remove_dir_all(path) } else { std::fs::remove_file(path) };
    match removed {
        Err(e) if e.kind() == std::io::ErrorKind::NotFound => Ok(()),
        removed => removed.map_err(|e| Error::io("remove", path, e)),
    }
}

/// The bytes of the files right in a folder.
fn size(folder: &Path) -> u64 {
    let entries = std::fs::read_dir(folder).into_iter().flatten().flatten();
    entries.filter_map(|e| e.metadata().ok()).filter(|m| m.is_file()).map(|m| m.len()).sum()
}

/// A machine of a [`FakeBuilder`]: a folder in which commands run.
#[derive(Debug)]
pub struct FakeMachine {
    builder: FakeBuilder,
    number: String,
    facts: Facts,
    communicator: LocalMachine,
}

#[async_trait]
impl Machine for FakeMachine {
    fn communicator(&self) -> Arc<dyn Communicator> {
        Arc::new(self.communicator.clone())
    }

    fn facts(&self) -> &Facts {
        &self.facts
    }

    async fn capture(&self, cx: &Context) -> Result<Artifact> {
        let builder = &self.builder;
        builder.called("capture");
        builder.struck(Verb::Capture, false).await?;
        builder.image(cx, &self.number).await
    }

    async fn checkpoint(&self, cx: &Context, key: &CheckpointKey) -> Result<Option<Resource>> {
        let builder = &self.builder;
        builder.called("checkpoint");
        builder.struck(Verb::Checkpoint, false).await?;
        if builder.source.is_none() {
            return Ok(None);
        }
        let prefix = key.0.get(..8).unwrap_or_default();
        let name = format!("checkpoint-{prefix}-{}", uuid::Uuid::new_v4().simple());
        let (from, to) = (self.communicator.path(""), builder.folder.join(&name));
        let mut resource = builder.resource("checkpoint", &name);
        resource.details["size"] = size(&from).into();
        cx.own(resource.clone(), cx.blocking(move |stop| copied(&from, &to, stop))).await?;
        builder.struck(Verb::Checkpoint, true).await?;
        Ok(Some(resource))
    }

    fn lifecycle(&self) -> Lifecycle {
        if self.builder.flat { Lifecycle::Flat } else { Lifecycle::Steps }
    }
}

/// A provisioner that runs a command in the machine, and fails as often as a test wants.
#[derive(Debug, Clone, Default)]
pub struct FakeProvisioner {
    command: String,
    trouble: Option<Trouble>,
    takes: Duration,
    tries: Arc<AtomicU32>,
    troubled_tries: u32,
    env: BTreeMap<String, Secret>,
    /// `None` for a step whose inputs cannot be known.
    reads: Option<Vec<PathBuf>>,
}

impl FakeProvisioner {
    /// Runs a command with the machine's shell; a code other than 0 is a failure.
    pub fn run(command: impl Into<String>) -> Self {
        let reads = Some(Vec::new());
        Self { command: command.into(), troubled_tries: u32::MAX, reads, ..Self::default() }
    }

    /// Makes every try go wrong.
    #[must_use]
    pub fn trouble(mut self, trouble: Trouble) -> Self {
        self.trouble = Some(trouble);
        self
    }

    /// Makes only the first tries go wrong.
    #[must_use]
    pub fn first_tries(mut self, tries: u32) -> Self {
        self.troubled_tries = tries;
        self
    }

    /// Makes each try take this long.
    #[must_use]
    pub fn takes(mut self, time: Duration) -> Self {
        self.takes = time;
        self
    }

    /// Names a file or folder that the command reads.
    #[must_use]
    pub fn reads(mut self, path: impl Into<PathBuf>) -> Self {
        self.reads.get_or_insert_default().push(path.into());
        self
    }

    /// Says that what the command does cannot be known.
    #[must_use]
    pub fn volatile(mut self) -> Self {
        self.reads = None;
        self
    }

    /// Adds a secret to the configuration; the command does not see it.
    #[must_use]
    pub fn secret(mut self, name: impl Into<String>, value: impl Into<Secret>) -> Self {
        self.env.insert(name.into(), value.into());
        self
    }

    /// How often it was tried so far.
    pub fn tries(&self) -> u32 {
        self.tries.load(Ordering::SeqCst)
    }
}

#[async_trait]
impl Provisioner for FakeProvisioner {
    async fn provision(&self, cx: &Context, machine: &dyn Machine) -> Result<()> {
        let number = self.tries.fetch_add(1, Ordering::SeqCst) + 1;
        let trouble = self.trouble.filter(|_| number <= self.troubled_tries);
        Trouble::strike(trouble, false, &format!("try {number}")).await?;
        if !self.takes.is_zero() {
            tokio::time::sleep(self.takes).await;
        }
        if !self.command.is_empty() {
            let status = machine.communicator().run(cx, &self.command).await?;
            if !status.success() {
                return Err(Error::guest(format!("{:?} ended with {}", self.command, status.code())));
            }
        }
        Trouble::strike(trouble, true, &format!("try {number}")).await
    }

    fn inputs(&self) -> StepInputs {
        self.reads.clone().map_or(StepInputs::Volatile, StepInputs::Files)
    }

    /// What goes wrong is no part of it: a test may mend that between two runs.
    fn config(&self) -> Option<Value> {
        let secrets = self.env.iter();
        let env = secrets.map(|(name, secret)| (name.as_str(), Value::text(secret.reveal()).sensitive()));
        Some(Value::object([("command", Value::text(&self.command)), ("env", Value::object(env))]))
    }

    fn type_name(&self) -> std::borrow::Cow<'static, str> {
        "fake".into()
    }
}

/// A post-processor that writes a file and makes it its artifact, or hands its input through.
#[derive(Debug, Clone)]
pub struct FakePostProcessor {
    output: Option<PathBuf>,
    keep: Keep,
    trouble: Option<Trouble>,
    seen: Arc<Mutex<Vec<Artifact>>>,
}

impl FakePostProcessor {
    /// Writes the names of the input's files into this file.
    pub fn writing(output: impl Into<PathBuf>, keep: Keep) -> Self {
        Self { output: Some(output.into()), keep, trouble: None, seen: Arc::default() }
    }

    /// Hands its input through.
    pub fn passing(keep: Keep) -> Self {
        Self { output: None, keep, trouble: None, seen: Arc::default() }
    }

    /// Makes it go wrong.
    #[must_use]
    pub fn trouble(mut self, trouble: Trouble) -> Self {
        self.trouble = Some(trouble);
        self
    }

    /// The artifacts it was given so far.
    pub fn seen(&self) -> Vec<Artifact> {
        self.seen.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }
}

#[async_trait]
impl PostProcessor for FakePostProcessor {
    async fn post_process(&self, cx: &Context, artifact: Artifact) -> Result<Processed> {
        self.seen.lock().unwrap_or_else(PoisonError::into_inner).push(artifact.clone());
        Trouble::strike(self.trouble, false, "post-processing").await?;
        let Some(path) = &self.output else {
            let mut processed = Processed::beside(artifact);
            processed.keep = self.keep;
            return Ok(processed);
        };
        let partial = path.with_extension("partial");
        let text: Vec<String> = artifact.files.iter().map(|f| f.display().to_string()).collect();
        cx.own(Resource::file(&partial), async {
            std::fs::write(&partial, text.join("\n")).map_err(|e| Error::io("write", &partial, e))
        })
        .await?;
        Trouble::strike(self.trouble, true, "post-processing").await?;
        std::fs::rename(&partial, path).map_err(|e| Error::io("rename", &partial, e))?;
        let made = Artifact::new("test.fake-post-processor", "")
            .describe(format!("Wrote: {}", path.display()))
            .file(path);
        let mut processed = Processed::replacing(made);
        processed.keep = self.keep;
        Ok(processed)
    }

    fn type_name(&self) -> std::borrow::Cow<'static, str> {
        "fake".into()
    }
}
