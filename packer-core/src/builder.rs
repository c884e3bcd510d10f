//! The builder's contract: `launch`, `capture`, `release`.

use std::borrow::Cow;
use std::fmt;
use std::sync::Arc;

use async_trait::async_trait;

use crate::artifact::Artifact;
use crate::communicator::Communicator;
use crate::context::{Context, PrepareContext};
use crate::diagnostic::Diagnostics;
use crate::error::{Error, Result};
use crate::facts::Facts;
use crate::ledger::Resource;
use crate::value::Value;

/// Starts machines of one kind and turns them into artifacts.
///
/// A builder is a struct that deserializes from its block; it is immutable and may be used by several builds
/// at once. The engine owns everything between the verbs: provisioning, retries, pauses, timeouts, on-error
/// policy and cleanup.
///
/// # Behavior
/// - Order of calls for one build: `prepare`, `launch`, (provisioners), `capture`, `release` of everything that
///   the ledger still holds, newest first. `release` runs after success, failure and cancellation alike.
/// - Everything that outlives a call is announced through [`Context::own`] *before* the call that creates it. What an
///   artifact lists in [`Artifact::resources`] is not released at the end of the build.
/// - On cancellation the engine drops the future of `launch` or `capture` at an await point; nothing but the ledger
///   is then relied on. `release` is never dropped by that first cancellation, only when the host abandons
///   cleanup.
/// - Nothing here writes to standard output, reads the environment or installs handlers: see [`Context`].
#[async_trait]
pub trait Builder: Send + Sync {
    /// Checks what can be checked without side effects. Called for every build before any starts, and by
    /// `validate`. Everything wrong is reported at once; warnings go into [`Prepared::warnings`].
    async fn prepare(&self, cx: &PrepareContext) -> Result<Prepared, Diagnostics>;

    /// Brings up a machine and connects to it.
    async fn launch(&self, cx: &Context) -> Result<Box<dyn Machine>>;

    /// Destroys one resource of this builder's.
    ///
    /// Idempotent: a resource that is gone, or never came to be, is success. May run in a later process on a
    /// builder made from [`Resource::config`], so it may use nothing that `launch` left in memory.
    async fn release(&self, cx: &Context, resource: &Resource) -> Result<()>;

    /// Launches from a checkpoint instead of from the source. Only called with what
    /// [`Machine::checkpoint`] of a builder of the same configuration returned, perhaps in an earlier process.
    ///
    /// The checkpoint stays as it is: other builds start from it too, perhaps at the same time. What `resume` makes is
    /// announced through [`Context::own`] as `launch` does. Where it fails the engine releases what it made and
    /// the checkpoint, and starts from an earlier one or from the source; an error that is
    /// [retryable](Error::is_retryable) leaves the checkpoint in place.
    async fn resume(&self, _cx: &Context, checkpoint: &Resource) -> Result<Box<dyn Machine>> {
        Err(Error::user(format!("this builder cannot start from the checkpoint {checkpoint}")))
    }

    /// Makes the artifact of a checkpoint without starting a machine from it. Called where all steps of a build are in the
    /// checkpoint, in place of [`resume`](Self::resume) and [`Machine::capture`], whose artifact it must be: with what
    /// post-processors are to know of the machine in [`Artifact::generated_data`].
    ///
    /// `None`, the default, where that cannot be done; then a machine is started and captured. So it is where this fails,
    /// and with debugging on, since there is no machine here to look into. What it makes is announced through
    /// [`Context::own`]; the checkpoint stays as it is.
    ///
    /// ```
    /// # use std::path::PathBuf;
    /// # use packer_core::*;
    /// # use packer_core::kit;
    /// struct Vm {
    ///     states: PathBuf,
    ///     output: PathBuf,
    /// }
    ///
    /// #[async_trait]
    /// impl Builder for Vm {
    ///     // A state is a disk, and so is the artifact: a copy will do.
    ///     async fn capture_checkpoint(&self, cx: &Context, checkpoint: &Resource) -> Result<Option<Artifact>> {
    ///         let (from, to, inner) = (self.states.join(&checkpoint.name), self.output.clone(), cx.clone());
    ///         let copy = cx.blocking(move |stop| {
    ///             let input = std::fs::File::open(&from).map_err(|e| Error::io("open", &from, e))?;
    ///             let mut output = WholeFile::create(&inner, &to, 0o644)?;
    ///             std::io::copy(&mut stop.reader(input, None), &mut output).map_err(|e| Error::io("copy", &from, e))?;
    ///             output.commit()
    ///         });
    ///         cx.step("copy the saved state", copy).await?;
    ///         Ok(Some(Artifact::new("example.vm", self.output.to_string_lossy()).file(&self.output)))
    ///     }
    ///     // …
    /// #   async fn prepare(&self, _: &PrepareContext) -> Result<Prepared, Diagnostics> { Ok(Prepared::new()) }
    /// #   async fn launch(&self, _: &Context) -> Result<Box<dyn Machine>> { Err(Error::user("")) }
    /// #   async fn release(&self, _: &Context, _: &Resource) -> Result<()> { Ok(()) }
    /// }
    /// # #[cfg(feature = "testing")]
    /// # tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap().block_on(async {
    /// # let bench = testing::Bench::new();
    /// # let vm = Vm { states: bench.folder().to_owned(), output: bench.folder().join("out") };
    /// # let state = Resource::new("state", kit::unique_name("state"));
    /// # std::fs::write(vm.states.join(&state.name), "a disk").unwrap();
    /// # let artifact = vm.capture_checkpoint(bench.context(), &state).await.unwrap().unwrap();
    /// # assert_eq!(std::fs::read_to_string(&artifact.files[0]).unwrap(), "a disk");
    /// # assert!(vm.states.join(&state.name).exists());
    /// # });
    /// ```
    async fn capture_checkpoint(&self, _cx: &Context, _checkpoint: &Resource) -> Result<Option<Artifact>> {
        Ok(None)
    }

    /// Whether a checkpoint is still there. Leaves nothing behind; `plan` calls it too. The default believes so,
    /// and leaves it to `resume` to find out.
    async fn checkpoint_exists(&self, _cx: &Context, _checkpoint: &Resource) -> Result<bool> {
        Ok(true)
    }

    /// What the machine starts from, as content: the digest of an image. The key of the first step begins with it.
    /// `None`, the default, where it cannot be known: no step of such a build is reused. Leaves nothing behind; `plan`
    /// calls it too. For files there are [`kit::digest_file`](crate::kit::digest_file) and
    /// [`kit::digest_files`](crate::kit::digest_files).
    async fn source_digest(&self, _cx: &Context) -> Result<Option<String>> {
        Ok(None)
    }

    /// Arguments that only [`Machine::capture`] looks at, such as where an image goes. What they say is not part of the
    /// key of a step: when they change, finished steps are reused all the same. None is the default.
    fn capture_arguments(&self) -> &'static [&'static str] {
        &[]
    }

    /// Names of the `build.*` values that this builder provides beside the common ones; templates may refer to
    /// them before the machine exists.
    fn variables(&self) -> Vec<Cow<'static, str>> {
        Vec::new()
    }

    /// The configuration as a block of a template would hold it: an object without the fields that are not
    /// set, sensitive where it is secret. What a
    /// pipeline written in code is exported from, what `plan` shows, and part of the key under which a finished step may
    /// be reused. `None`, the default, where a component cannot say; [`config::to_value`](crate::config::to_value) makes
    /// it from a struct that serializes.
    fn config(&self) -> Option<Value> {
        None
    }

    /// How what this builder makes is started anew, for a build with [tests](crate::Build::test). `None`, the default, where
    /// that cannot be done: a build with tests is then refused before anything runs. Where it depends on the configuration,
    /// [`Prepared::no_boot_test`] says why.
    fn boot_test(&self) -> Option<&dyn BootTest> {
        None
    }

    /// The name of this kind of builder in output where no template gives one.
    fn type_name(&self) -> Cow<'static, str> {
        type_name_of::<Self>()
    }
}

/// Builders whose artifacts can be started anew, to be tested before anything is made of them.
///
/// # Behavior
/// - Order of calls for a build with tests: `capture`, `release` of what only the build's machine needed, `boot`, (tests),
///   `release` of all that `boot` brought, and after a failure `set_aside`. Where the host asks for another try, `boot` is
///   called again.
/// - On cancellation the engine drops the future of both at an await point; what the artifact owns is then released, too.
///
/// ```
/// # use std::path::PathBuf;
/// # use packer_core::*;
/// # use packer_core::kit;
/// struct Vm {
///     folder: PathBuf,
/// }
///
/// #[async_trait]
/// impl Builder for Vm {
///     fn boot_test(&self) -> Option<&dyn BootTest> {
///         Some(self)
///     }
///     // …
/// #   async fn prepare(&self, _: &PrepareContext) -> Result<Prepared, Diagnostics> { Ok(Prepared::new()) }
/// #   async fn launch(&self, _: &Context) -> Result<Box<dyn Machine>> { Err(Error::user("")) }
/// #   async fn release(&self, _: &Context, _: &Resource) -> Result<()> { Ok(()) }
/// }
/// # impl Vm {
/// #     async fn start(&self, _: &Context, _: PathBuf) -> Result<Box<dyn Machine>> { Err(Error::user("")) }
/// # }
///
/// #[async_trait]
/// impl BootTest for Vm {
///     // The machine writes to a copy: the image stays as it is.
///     async fn boot(&self, cx: &Context, artifact: &Artifact) -> Result<Box<dyn Machine>> {
///         let copy = self.folder.join(kit::unique_name("test"));
///         let copying = async {
///             std::fs::copy(&artifact.files[0], &copy).map_err(|e| Error::io("copy", &artifact.files[0], e))
///         };
///         cx.own(Resource::file(&copy), copying).await?;
///         self.start(cx, copy).await
///     }
///
///     async fn set_aside(&self, cx: &Context, mut artifact: Artifact) -> Result<Artifact> {
///         let from = std::mem::take(&mut artifact.files[0]);
///         let to = from.with_extension("failed-test.img");
///         let kept = Resource::file(&to);
///         let rename = async { std::fs::rename(&from, &to).map_err(|e| Error::io("rename", &from, e)) };
///         cx.own(kept.clone(), rename).await?;
///         artifact.files = vec![to];
///         artifact.resources = vec![kept];
///         Ok(artifact)
///     }
/// }
/// # #[cfg(feature = "testing")]
/// # tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap().block_on(async {
/// # let bench = testing::Bench::new();
/// # let vm = Vm { folder: bench.folder().to_owned() };
/// # let image = vm.folder.join("a.img");
/// # std::fs::write(&image, "a disk").unwrap();
/// # let artifact = Artifact::new("example.vm", "a").file(&image);
/// # assert!(vm.boot_test().unwrap().boot(bench.context(), &artifact).await.is_err());
/// # let kept = vm.set_aside(bench.context(), artifact).await.unwrap();
/// # assert!(kept.files[0].ends_with("a.failed-test.img") && kept.files[0].exists() && !image.exists());
/// # });
/// ```
#[async_trait]
pub trait BootTest: Send + Sync {
    /// Starts a machine from the artifact, which stays as it is: what the machine changes is thrown away (an overlay, a
    /// container). What it makes is announced through [`Context::own`], as `launch` does; [`Builder::release`] releases it
    /// when the test is over.
    async fn boot(&self, cx: &Context, artifact: &Artifact) -> Result<Box<dyn Machine>>;

    /// Puts the artifact of a failed test aside under a name that says so, and returns it as it is called now, its resources
    /// too. People are told its first file, or its id where it has none. No machine runs from it any more.
    ///
    /// What it is to own is announced through [`Context::own`]. What it owned before, and does not own any more, is released
    /// at the end of the build: releasing the first name may not harm what has the new one. Where this fails, the artifact
    /// is as it was.
    async fn set_aside(&self, cx: &Context, artifact: Artifact) -> Result<Artifact>;
}

/// What [`Builder::prepare`] found out.
#[derive(Debug, Clone, Default)]
#[non_exhaustive]
pub struct Prepared {
    /// What the user should know although the build can run.
    pub warnings: Diagnostics,
    /// Why no command can run in this machine, where that is so: a build with a provisioner that
    /// [runs commands](crate::Provisioner::runs_commands) in it is refused before it starts.
    pub no_commands: Option<String>,
    /// Why what this builder makes cannot be started anew, where its configuration is the reason: a build with
    /// [tests](crate::Build::test) is refused before it starts.
    pub no_boot_test: Option<String>,
}

impl Prepared {
    /// Nothing to say.
    pub fn new() -> Self {
        Self::default()
    }

    /// What was found: all of it is the error where something is wrong, and otherwise these are the warnings.
    pub fn of(found: Diagnostics) -> Result<Self, Diagnostics> {
        if found.has_errors() { Err(found) } else { Ok(Self { warnings: found, ..Self::default() }) }
    }
}

/// A machine that is up: what its builder needs to finish lives in its fields.
///
/// # Behavior
/// - `communicator` returns the same communicator each time; provisioners may use it at once.
/// - `capture` is called once, after the last provisioner succeeded; again only where it failed and the host asks for
///   another try. Whatever it creates it owns through [`Context::own`]; what the artifact is to keep it lists in
///   [`Artifact::resources`].
/// - Dropping a machine releases nothing outside this process: that is [`Builder::release`]'s part.
#[async_trait]
pub trait Machine: Send + Sync {
    /// The way into the machine.
    fn communicator(&self) -> Arc<dyn Communicator>;

    /// What is known about the machine, as `build.*` shows it.
    fn facts(&self) -> &Facts;

    /// Turns the provisioned machine into an artifact.
    async fn capture(&self, cx: &Context) -> Result<Artifact>;

    /// Called when a provisioner has succeeded (`step` names it), before the state is saved under a key: a boundary
    /// for machines that keep what each step changed apart, as the layers of an image. An error fails the step.
    async fn step_done(&self, _cx: &Context, _step: &str) -> Result<()> {
        Ok(())
    }

    /// Saves the present state; `None`, the default, where this builder cannot. Called between provisioners, where the
    /// engine was given a cache; the machine goes on as if nothing had happened.
    ///
    /// A checkpoint is a [`Resource`] that outlives the build:
    /// - It is made through [`Context::own`], so that it is in the ledger before it exists. Then the engine lists it in
    ///   its cache and strikes it out of the ledger as kept; should the process die between, recovery releases it.
    /// - [`Builder::release`] destroys it, in a later process too, on a builder made from [`Resource::config`]; in use by
    ///   nobody, since the engine prunes only what no run uses.
    /// - `key` may be part of its name for people who look, but the name is its own: another process may save the
    ///   same state at the same time, and one of the two is released at once.
    /// - `details.size` is its size in bytes, as far as that is known: what releasing it gives back.
    async fn checkpoint(&self, _cx: &Context, _key: &CheckpointKey) -> Result<Option<Resource>> {
        Ok(None)
    }

    /// How Packer's output names the phases of this machine's life; see [`Lifecycle`].
    fn lifecycle(&self) -> Lifecycle {
        Lifecycle::Steps
    }
}

/// How failures of a build around this machine are told and treated.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub enum Lifecycle {
    /// The machine is torn down in steps: the on-error policy and the error-cleanup provisioner apply.
    Steps,
    /// There is no machine to tear down or to look into (the `file` builder): a failed provisioner ends the
    /// build at once, whatever the policy, and the error-cleanup provisioner does not run.
    Flat,
}

impl fmt::Debug for dyn Machine + '_ {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Machine({:?})", self.facts())
    }
}

/// Names a state of a machine: a hash over everything that led to it.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct CheckpointKey(pub String);

/// The last part of a type's path in kebab case: `ShellLocal` is `shell-local`.
pub(crate) fn type_name_of<T: ?Sized>() -> Cow<'static, str> {
    let path = std::any::type_name::<T>();
    let path = path.split('<').next().unwrap_or(path);
    let name = path.rsplit("::").next().unwrap_or(path);
    let mut kebab = String::with_capacity(name.len() + 4);
    for (i, c) in name.chars().enumerate() {
        if c.is_uppercase() && i > 0 {
            kebab.push('-');
        }
        kebab.extend(c.to_lowercase());
    }
    Cow::Owned(kebab)
}

#[cfg(test)]
mod tests {
    #[test]
    fn type_names_are_kebab_case() {
        struct ShellLocal;
        struct Generic<T>(T);
        assert_eq!(super::type_name_of::<ShellLocal>(), "shell-local");
        assert_eq!(super::type_name_of::<Generic<std::string::String>>(), "generic");
        let _ = (ShellLocal, Generic(1).0);
    }
}
