//! Cleanup: whatever a build brought into the world and no artifact owns goes, newest first.

use std::collections::{HashMap, HashSet};
use std::io;
use std::path::{Path, PathBuf};
use std::sync::{Arc, PoisonError};
use std::time::Duration;

use crate::artifact::Artifact;
use crate::builder::Builder;
use crate::context::Context;
use crate::duration::GoDuration;
use crate::engine::guard;
use crate::engine::report::Left;
use crate::error::{Error, Result};
use crate::kit::{blocking, process, whole_file};
use crate::ledger::{Ledger, Resource, ResourceId, Role};
use crate::post_processor::PostProcessor;
use crate::provisioner::Provisioner;
use crate::value::Value;

/// A component that can release what it made.
#[derive(Clone)]
pub(crate) enum Component {
    Builder(Arc<dyn Builder>),
    Provisioner(Arc<dyn Provisioner>),
    PostProcessor(Arc<dyn PostProcessor>),
}

impl Component {
    /// Its configuration, where it says it.
    fn config(&self) -> Option<Value> {
        guard::unwound_call(|| match self {
            Self::Builder(builder) => builder.config(),
            Self::Provisioner(provisioner) => provisioner.config(),
            Self::PostProcessor(post_processor) => post_processor.config(),
        })
        .ok()?
    }

    fn role(&self) -> Role {
        match self {
            Self::Builder(_) => Role::Builder,
            Self::Provisioner(_) => Role::Provisioner,
            Self::PostProcessor(_) => Role::PostProcessor,
        }
    }

    pub(crate) async fn release(&self, cx: &Context, resource: &Resource) -> Result<()> {
        let who = format!("{} while releasing {resource}", resource.component);
        guard::caught(&who, async {
            match self {
                Self::Builder(builder) => builder.release(cx, resource).await,
                Self::Provisioner(provisioner) => provisioner.release(cx, resource).await,
                Self::PostProcessor(post_processor) => post_processor.release(cx, resource).await,
            }
        })
        .await
    }
}

/// Which component made which resource of a build.
#[derive(Default)]
pub(crate) struct Owners {
    /// The last component of each role that began to work.
    latest: Vec<Component>,
    /// What was made by those before it.
    makers: HashMap<ResourceId, Component>,
}

impl Owners {
    /// A component begins to work: what its role has made so far is from the one before, what comes from now on is its
    /// own. Said before the work, since that may be dropped at any await point.
    pub(crate) fn begin(&mut self, cx: &Context, component: Component) {
        let role = component.role();
        let itself = component.clone();
        cx.record_of_build().configured(role, Arc::new(move || itself.config()));
        if let Some(at) = self.latest.iter().position(|c| c.role() == role) {
            let before = std::mem::replace(&mut self.latest[at], component);
            for resource in cx.record_of_build().owned.outstanding() {
                if !resource.is_local() && resource.role == role {
                    self.makers.entry(resource.id).or_insert_with(|| before.clone());
                }
            }
        } else {
            self.latest.push(component);
        }
    }

    /// Who releases a resource.
    pub(crate) fn of(&self, resource: &Resource) -> Result<&Component> {
        let latest = || self.latest.iter().find(|c| c.role() == resource.role);
        self.makers
            .get(&resource.id)
            .or_else(latest)
            .ok_or_else(|| Error::internal(format!("nobody knows who is to release {resource}")))
    }
}

/// Releases everything that the build holds and none of `artifacts` owns, newest first; says what is left.
pub(crate) async fn release_all(cx: &Context, owners: &Owners, artifacts: &[&Artifact]) -> Vec<Left> {
    let held = || cx.record_of_build().owned.outstanding();
    let gone = |resource: &Resource| artifacts.is_empty() && resource.went_with_its_machine(&held());
    release_where(cx, owners, artifacts, gone).await
}

/// The same after a test of an artifact, in a machine that was made since the build held `before`: what lay in that machine
/// went with it.
pub(crate) async fn release_since(
    cx: &Context,
    owners: &Owners,
    artifact: &Artifact,
    before: &HashSet<ResourceId>,
) {
    let is_of_machine = |r: &Resource| r.role == Role::Builder && !r.is_in_machine() && !r.is_path();
    let gone = |resource: &Resource| {
        let held = cx.record_of_build().owned.outstanding();
        !before.contains(&resource.id) && !held.iter().any(|r| !before.contains(&r.id) && is_of_machine(r))
    };
    release_where(cx, owners, &[artifact], gone).await;
}

/// Releases what none of `artifacts` owns; `gone` says whether what lies in a machine went with it.
async fn release_where(
    cx: &Context,
    owners: &Owners,
    artifacts: &[&Artifact],
    gone: impl Fn(&Resource) -> bool,
) -> Vec<Left> {
    wait_for_threads(cx).await;
    let owned = Owned::by(artifacts);
    let mut left = Vec::new();
    let mut outstanding = cx.record_of_build().owned.outstanding();
    // What lies in a machine comes last: it goes with the machine, unless an artifact was made of that.
    outstanding.sort_by_key(|resource| !resource.is_in_machine());
    for resource in outstanding.into_iter().rev() {
        if owned.contains(&resource) {
            continue;
        }
        let gone = resource.is_in_machine() && gone(&resource);
        let released = match retake(cx, [&resource]) {
            Ok(()) if gone => cx.released(&resource),
            Ok(()) => release(cx, owners, &resource).await,
            error => error,
        };
        if let Err(error) = released {
            left.push(Left::new(resource, &error));
        }
    }
    left
}

/// How long threads whose work nobody wants any more may take to notice it.
const LAST_WORK: Duration = Duration::from_secs(30);

/// A future that was dropped ends at once, a thread that it waited for does not: what that still makes is to be
/// released too.
async fn wait_for_threads(cx: &Context) {
    let quiet = tokio::time::timeout(LAST_WORK, cx.record_of_build().quiet());
    // Whoever abandons cleanup waits for nothing; what is missed is in the ledger.
    let _ = cx.for_cleanup().until_cancelled(async { Ok(quiet.await) }).await;
}

/// Releases one resource and strikes it out of the ledger.
pub(crate) async fn release(cx: &Context, owners: &Owners, resource: &Resource) -> Result<()> {
    let cx = &cx.for_cleanup().for_component(resource.role, &resource.component);
    if resource.is_process() {
        // A matter of milliseconds, and bounded: whoever abandons cleanup wants no script to go on either.
        remove(resource, Gone::IsFine).await?;
    } else if resource.is_local() {
        limited(cx, remove(resource, Gone::IsFine)).await.map_err(abandoned)?;
    } else {
        let owner = owners.of(resource)?;
        with_patience(cx, || owner.release(cx, resource)).await.map_err(abandoned)?;
    }
    cx.released(resource)
}

fn abandoned(error: Error) -> Error {
    if error.is_cancelled() { Error::new(error.fault(), "cleanup was abandoned") } else { error }
}

/// How long to wait before a release that failed is tried again, where the error says that this is worth it.
const WAITS: [Duration; 3] = [Duration::from_millis(500), Duration::from_secs(2), Duration::from_secs(5)];

/// Releases, several times if need be; ended by the context's scope, and by the limit for one resource.
pub(crate) async fn with_patience<F: Future<Output = Result<()>>>(
    cx: &Context,
    mut release: impl FnMut() -> F,
) -> Result<()> {
    let work = async {
        for wait in WAITS {
            match release().await {
                Err(error) if error.is_retryable() => tokio::time::sleep(wait).await,
                result => return result,
            }
        }
        release().await
    };
    limited(cx, work).await
}

/// The work within the limit for one resource; ended by the context's scope. What hangs keeps nobody from going on.
pub(crate) async fn limited(cx: &Context, work: impl Future<Output = Result<()>>) -> Result<()> {
    let limit = cx.run().release_limit;
    if limit.is_zero() {
        return cx.until_cancelled(work).await;
    }
    match cx.until_cancelled(async { Ok(tokio::time::timeout(limit, work).await) }).await? {
        Ok(result) => result,
        Err(_) => {
            let limit = GoDuration::from(limit);
            Err(Error::provider(format!("its release did not end within {limit}")))
        }
    }
}

/// A component has made an artifact, which stays from here on, whatever becomes of this process: the ledger lets go of
/// what it owns, all at once. The build goes on holding it, since a later step may use it up.
pub(crate) fn complete(cx: &Context, artifact: &mut Artifact) -> Result<()> {
    adopt(cx, artifact);
    let record = cx.record_of_build();
    let owned = Owned::by(&[artifact]);
    let mut done = record.complete.lock().unwrap_or_else(PoisonError::into_inner);
    let held = record.owned.outstanding();
    let ids = held.iter().filter(|r| owned.contains(r) && !done.contains(&r.id)).map(|r| r.id);
    let ids: Vec<ResourceId> = ids.collect();
    if !ids.is_empty() {
        cx.run().ledger.kept_all(&ids)?;
        done.extend(ids);
    }
    Ok(())
}

/// Takes up into the ledger again what an artifact owned, before it is destroyed: what was begun is ended by recovery.
fn retake<'a>(cx: &Context, resources: impl IntoIterator<Item = &'a Resource>) -> Result<()> {
    let record = cx.record_of_build();
    for resource in resources {
        let mut done = record.complete.lock().unwrap_or_else(PoisonError::into_inner);
        if done.contains(&resource.id) {
            cx.run().ledger.record(resource)?;
            done.remove(&resource.id);
        }
    }
    Ok(())
}

/// Strikes out of the ledger what the artifacts of a finished build own.
pub(crate) fn keep_all(cx: &Context, artifacts: &[Artifact]) -> Result<()> {
    let owned = Owned::by(&artifacts.iter().collect::<Vec<_>>());
    let record = cx.record_of_build();
    let held = record.owned.outstanding();
    let ids: Vec<ResourceId> = held.iter().filter(|r| owned.contains(r)).map(|r| r.id).collect();
    let done = record.complete.lock().unwrap_or_else(PoisonError::into_inner);
    if ids.iter().any(|id| !done.contains(id)) {
        cx.run().ledger.kept_all(&ids)?;
    }
    record.owned.kept_all(&ids)
}

/// Destroys what an artifact owns; what artifacts in `kept` own too stays, other than files.
///
/// # Errors
/// The first thing that could not be removed; the rest is removed all the same. A file that is not there is an
/// error: somebody took it away who should not have.
pub(crate) async fn discard(
    cx: &Context,
    owners: &Owners,
    artifact: &Artifact,
    kept: &[&Artifact],
) -> Result<()> {
    let cx = &cx.for_cleanup();
    let record = cx.record_of_build();
    let held = record.owned.outstanding();
    let kept: HashSet<ResourceId> = kept.iter().flat_map(|a| &a.resources).map(|r| r.id).collect();
    let going: Vec<&Resource> = artifact.resources.iter().rev().filter(|r| !kept.contains(&r.id)).collect();
    let of_file = |file: &Path| -> Vec<&Resource> {
        let names = names(file);
        held.iter().filter(|r| r.is_path() && names.iter().any(|name| Path::new(&r.name) == name)).collect()
    };
    let mut files = Vec::with_capacity(artifact.files.len());
    for file in &artifact.files {
        let known = of_file(file);
        retake(cx, known.iter().copied())?;
        let mut entries: Vec<Resource> = known.into_iter().cloned().collect();
        if entries.is_empty() {
            let entry = Resource::file(absolute(file));
            cx.record(entry.clone())?;
            entries.push(entry);
        }
        files.push((file, entries));
    }
    retake(cx, going.iter().copied())?;
    let mut result = Ok(());
    for (file, entries) in files {
        let outcome = tokio::fs::remove_file(file).await.map_err(|e| Error::io("remove", file, e));
        for entry in &entries {
            result = result.and(cx.released(entry));
        }
        result = result.and(outcome);
    }
    for resource in going {
        let outcome = if resource.is_local() {
            match remove(resource, Gone::IsAnError).await {
                Ok(()) => cx.released(resource),
                error => error,
            }
        } else {
            release(cx, owners, resource).await
        };
        result = result.and(outcome);
    }
    result
}

/// Fills in who made the resources that an artifact lists: its maker listed them before the ledger knew.
pub(crate) fn adopt(cx: &Context, artifact: &mut Artifact) {
    if artifact.resources.is_empty() {
        return;
    }
    let held: HashMap<ResourceId, Resource> =
        cx.record_of_build().owned.outstanding().into_iter().map(|r| (r.id, r)).collect();
    for resource in &mut artifact.resources {
        if let Some(known) = held.get(&resource.id) {
            *resource = known.clone();
        }
    }
}

/// What artifacts own: their resources, their files, and the folders in which these lie.
struct Owned {
    ids: HashSet<ResourceId>,
    files: HashSet<PathBuf>,
}

impl Owned {
    fn by(artifacts: &[&Artifact]) -> Self {
        let ids = artifacts.iter().flat_map(|a| &a.resources).map(|r| r.id).collect();
        let files = artifacts.iter().flat_map(|a| &a.files).flat_map(|f| names(f)).collect();
        Self { ids, files }
    }

    fn contains(&self, resource: &Resource) -> bool {
        if self.ids.contains(&resource.id) {
            return true;
        }
        let path = Path::new(&resource.name);
        resource.is_path()
            && match resource.kind.as_str() {
                "directory" => self.files.iter().any(|f| f.starts_with(path)),
                _ => self.files.contains(path),
            }
    }
}

fn absolute(path: &Path) -> PathBuf {
    std::path::absolute(path).unwrap_or_else(|_| path.to_owned())
}

/// What a file of an artifact may be called in the ledger: as it is named, and where it really is if a link leads there.
fn names(path: &Path) -> Vec<PathBuf> {
    let mut names = vec![absolute(path)];
    names.extend(path.canonicalize().ok().filter(|real| *real != names[0]));
    names
}

/// Whether it is an error that what is to be removed is not there.
#[derive(Clone, Copy, PartialEq)]
pub(crate) enum Gone {
    IsFine,
    IsAnError,
}

/// Removes a local file or folder, or ends a local process.
///
/// A file whose entry says which one it was (its [`identity`](whole_file::identity)) is removed only where it still is that
/// one.
pub(crate) async fn remove(resource: &Resource, gone: Gone) -> Result<()> {
    if resource.is_process() {
        let resource = resource.clone();
        return blocking::start(move || process::end(&resource)).await;
    }
    let path = Path::new(&resource.name);
    if path.file_name().is_none() {
        return Err(Error::internal(format!("{resource} is not removed: it names no file of its own")));
    }
    if let Some(identity) = resource.details.get("identity") {
        let there = tokio::fs::symlink_metadata(path).await.ok();
        if there.is_none_or(|there| whole_file::identity(&there) != *identity) {
            return Ok(());
        }
    }
    let removed = match resource.kind.as_str() {
        "directory" => tokio::fs::remove_dir_all(path).await,
        _ => tokio::fs::remove_file(path).await,
    };
    match removed {
        Err(_) if gone == Gone::IsFine && is_nowhere(path).await => Ok(()),
        removed => removed.map_err(|e| Error::io("remove", path, e)),
    }
}

/// Whether nothing can be at a path: it is missing, or it is none (its name is too long, a file is on the way).
async fn is_nowhere(path: &Path) -> bool {
    use io::ErrorKind::{InvalidFilename, InvalidInput, NotADirectory, NotFound};
    tokio::fs::symlink_metadata(path)
        .await
        .is_err_and(|e| matches!(e.kind(), NotFound | NotADirectory | InvalidFilename | InvalidInput))
}
