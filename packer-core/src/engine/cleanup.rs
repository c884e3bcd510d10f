//! Cleanup: whatever a build brought into the world and no artifact owns goes, newest first.

use std::collections::{HashMap, HashSet};
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use crate::artifact::Artifact;
use crate::builder::Builder;
use crate::context::Context;
use crate::engine::guard;
use crate::engine::report::Left;
use crate::error::{Error, Result};
use crate::ledger::{Ledger, Resource, ResourceId, Role};
use crate::post_processor::PostProcessor;
use crate::provisioner::Provisioner;

/// A component that can release what it made.
#[derive(Clone)]
pub(crate) enum Component {
    Builder(Arc<dyn Builder>),
    Provisioner(Arc<dyn Provisioner>),
    PostProcessor(Arc<dyn PostProcessor>),
}

impl Component {
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
        let held = cx.record_of_build().owned.outstanding();
        let released = match artifacts.is_empty() && resource.went_with_its_machine(&held) {
            true => cx.released(&resource),
            false => release(cx, owners, &resource).await,
        };
        if let Err(error) = released {
            left.push(Left { resource, reason: error.to_string() });
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
    if resource.is_local() {
        cx.until_cancelled(remove(resource, Gone::IsFine)).await.map_err(abandoned)?;
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

/// Releases, several times if need be; ended by the context's scope.
pub(crate) async fn with_patience<F: Future<Output = Result<()>>>(
    cx: &Context,
    mut release: impl FnMut() -> F,
) -> Result<()> {
    for wait in WAITS {
        match cx.until_cancelled(release()).await {
            Err(error) if error.is_retryable() => cx.sleep(wait).await?,
            result => return result,
        }
    }
    cx.until_cancelled(release()).await
}

/// Strikes out of the ledger what the artifacts of a finished build own.
pub(crate) fn keep_all(cx: &Context, artifacts: &[Artifact]) -> Result<()> {
    let owned = Owned::by(&artifacts.iter().collect::<Vec<_>>());
    let record = cx.record_of_build();
    for resource in record.owned.outstanding() {
        if owned.contains(&resource) {
            cx.run().ledger.kept(resource.id)?;
            record.owned.kept(resource.id)?;
        }
    }
    Ok(())
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
    let mut result = Ok(());
    for file in &artifact.files {
        let outcome = tokio::fs::remove_file(file).await.map_err(|e| Error::io("remove", file, e));
        let path = absolute(file);
        for resource in held.iter().filter(|r| r.is_local() && Path::new(&r.name) == path) {
            result = result.and(cx.released(resource));
        }
        result = result.and(outcome);
    }
    let kept: HashSet<ResourceId> = kept.iter().flat_map(|a| &a.resources).map(|r| r.id).collect();
    for resource in artifact.resources.iter().rev().filter(|r| !kept.contains(&r.id)) {
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
        let files = artifacts.iter().flat_map(|a| &a.files).map(|f| absolute(f)).collect();
        Self { ids, files }
    }

    fn contains(&self, resource: &Resource) -> bool {
        if self.ids.contains(&resource.id) {
            return true;
        }
        let path = Path::new(&resource.name);
        resource.is_local()
            && match resource.kind.as_str() {
                "directory" => self.files.iter().any(|f| f.starts_with(path)),
                _ => self.files.contains(path),
            }
    }
}

fn absolute(path: &Path) -> PathBuf {
    std::path::absolute(path).unwrap_or_else(|_| path.to_owned())
}

/// Whether it is an error that what is to be removed is not there.
#[derive(Clone, Copy, PartialEq)]
pub(crate) enum Gone {
    IsFine,
    IsAnError,
}

/// Removes a local file or folder.
pub(crate) async fn remove(resource: &Resource, gone: Gone) -> Result<()> {
    let path = Path::new(&resource.name);
    if path.file_name().is_none() {
        return Err(Error::internal(format!("{resource} is not removed: it names no file of its own")));
    }
    let removed = match resource.kind.as_str() {
        "directory" => tokio::fs::remove_dir_all(path).await,
        _ => tokio::fs::remove_file(path).await,
    };
    match removed {
        Err(e) if e.kind() == io::ErrorKind::NotFound && gone == Gone::IsFine => Ok(()),
        removed => removed.map_err(|e| Error::io("remove", path, e)),
    }
}
