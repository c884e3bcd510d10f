//! Preparation: every build is checked before any starts, and everything wrong is told at once.

use std::future::{Future, poll_fn};
use std::sync::Arc;
use std::task::Poll;

use tokio_util::task::AbortOnDropHandle;

use crate::builder::Builder;
use crate::context::{Host, PrepareContext};
use crate::diagnostic::{Diagnostic, Diagnostics, Location};
use crate::engine::boot_test::cannot_boot;
use crate::engine::guard;
use crate::pipeline::{Build, Late, ProvisionStep};
use crate::post_processor::PostProcessor;
use crate::provisioner::Provisioner;
use crate::secrets::Secrets;
use crate::value::Value;

/// A build and what its preparation found.
pub(crate) struct Prepared {
    pub(crate) build: Build,
    pub(crate) findings: Diagnostics,
}

/// Registers what the components of a build declare secret, where they are made by code: a template's are registered when
/// it is read.
pub(crate) fn register_secrets(build: &Build, secrets: &Secrets) {
    let builder = &build.builder;
    register(builder.preview_config().is_some(), || builder.preview().config(), secrets);
    for step in build.provisioners.iter().chain(&build.error_cleanup).chain(&build.tests) {
        let late = &step.provisioner;
        register(late.preview_config().is_some(), || late.preview().config(), secrets);
    }
    for step in build.post_processors.iter().flatten() {
        let late = &step.post_processor;
        register(late.preview_config().is_some(), || late.preview().config(), secrets);
    }
}

/// The same for one component, unless that is `done`.
pub(crate) fn register(done: bool, config: impl FnOnce() -> Option<Value>, secrets: &Secrets) {
    if !done && let Ok(Some(config)) = guard::unwound_call(config) {
        secrets.add_declared(&config);
    }
}

/// What is said of secrets that are too short; `any` includes those that nobody but a component calls a secret.
pub(crate) fn short_secrets(secrets: &Secrets, any: bool) -> Option<Diagnostic> {
    let are_there = if any { secrets.has_short() } else { secrets.has_tiny() };
    are_there.then(|| {
        Diagnostic::warning("A secret is too short to be told apart").detail(
            "A sensitive text of fewer than eight characters, or six digits, is replaced in values and in what commands \
             print, but not where it is a part of a word or a name. A longer one is replaced everywhere.",
        )
    })
}

/// Prepares builds, side by side; the result has their order.
pub(crate) async fn all(builds: Vec<Build>, host: &Host) -> Vec<Prepared> {
    // Most are done at once: a task for each of thousands would cost more than they do.
    let few = builds.len().div_ceil(TASKS).max(1);
    let tasks: Vec<_> =
        builds.chunks(few).map(|some| (some.len(), spawn(several(some.to_vec(), host.clone())))).collect();
    let mut found = Vec::with_capacity(builds.len());
    for (count, task) in tasks {
        match task.await {
            Ok(some) => found.extend(some),
            Err(_) => found.extend((0..count).map(|_| lost())),
        }
    }
    builds.into_iter().zip(found).map(|(build, findings)| Prepared { build, findings }).collect()
}

/// Into how many tasks preparation is divided at most, as long as no build has to wait for anything.
const TASKS: usize = 64;

/// What there is to say of some builds. One that waits for something goes on by itself.
async fn several(builds: Vec<Build>, host: Host) -> Vec<Diagnostics> {
    let mut begun = Vec::with_capacity(builds.len());
    for build in builds {
        let cx = PrepareContext::new(build.info.clone(), host.clone());
        let mut work = Box::pin(async move { findings(&build, &cx).await });
        begun.push(match poll_fn(|cx| Poll::Ready(work.as_mut().poll(cx))).await {
            Poll::Ready(found) => Ok(found),
            Poll::Pending => Err(spawn(work)),
        });
    }
    let mut found = Vec::with_capacity(begun.len());
    for one in begun {
        found.push(match one {
            Ok(found) => found,
            Err(task) => task.await.unwrap_or_else(|_| lost()),
        });
    }
    found
}

/// A task that ends when nobody waits for it any more.
fn spawn<T: Send + 'static>(work: impl Future<Output = T> + Send + 'static) -> AbortOnDropHandle<T> {
    AbortOnDropHandle::new(tokio::spawn(work))
}

fn lost() -> Diagnostics {
    Diagnostic::error("The preparation of the build was lost").into()
}

async fn findings(build: &Build, cx: &PrepareContext) -> Diagnostics {
    let (mut findings, reasons) =
        prepared(&build.builder, build.builder.preview(), cx, build.location.as_ref()).await;
    let Reasons { no_commands, no_boot_test } = reasons;
    let provisioners =
        build.provisioners.iter().chain(&build.error_cleanup).map(|step| ("provisioner", step));
    let steps = provisioners.chain(build.tests.iter().map(|step| ("test", step)));
    let admitted = |step: &ProvisionStep| step.filter.admits(&build.source);
    // What stands for a builder whose configuration is wrong can start nothing: that is no finding.
    let untestable = no_boot_test.filter(|_| !findings.has_errors());
    if let (Some(reason), Some(test)) = (untestable, build.tests.iter().find(|step| admitted(step))) {
        let finding = Diagnostics::from(Diagnostic::error(reason));
        findings.append(match &test.location {
            Some(place) => finding.or_at(place),
            None => finding,
        });
    }
    for (block, step) in steps.filter(|(_, step)| admitted(step)) {
        let what = format!("Failed preparing {block}-block {:?} {:?}", step.kind, step.name);
        let provisioner = step.provisioner.preview();
        let mut found = self::provisioner(provisioner.as_ref(), cx);
        if let Some(reason) = no_commands.as_ref().filter(|_| provisioner.runs_commands()) {
            found.push(Diagnostic::error(reason));
        }
        findings.append(under(what, step.provisioner.locate(found), step.location.as_ref()));
    }
    for step in build.post_processors.iter().flatten().filter(|s| s.filter.admits(&build.source)) {
        let what = format!("Failed preparing post-processor-block {:?} {:?}", step.kind, step.name);
        let found = post_processor(step.post_processor.preview().as_ref(), cx);
        findings.append(under(what, step.post_processor.locate(found), step.location.as_ref()));
    }
    match build.rephrase {
        Some(rephrase) => findings.into_iter().map(|finding| rephrase(&build.info, finding)).collect(),
        None => findings,
    }
}

/// What a builder has to say, at the arguments it is about, or else at the place of its build.
pub(crate) async fn builder(
    late: &Late<dyn Builder>,
    builder: &Arc<dyn Builder>,
    cx: &PrepareContext,
    place: Option<&Location>,
) -> Diagnostics {
    prepared(late, builder, cx, place).await.0
}

/// Why some steps cannot be, where that is so.
struct Reasons {
    no_commands: Option<String>,
    no_boot_test: Option<String>,
}

/// The same, and which steps cannot be with it.
async fn prepared(
    late: &Late<dyn Builder>,
    builder: &Arc<dyn Builder>,
    cx: &PrepareContext,
    place: Option<&Location>,
) -> (Diagnostics, Reasons) {
    let (found, no_commands, no_boot_test) = match guard::unwound(builder.prepare(cx)).await {
        Ok(Ok(prepared)) => (prepared.warnings, prepared.no_commands, prepared.no_boot_test),
        Ok(Err(findings)) => (findings, None, None),
        Err(message) => (panicked("builder", &cx.build.builder_type, &message), None, None),
    };
    let found = late.locate(found);
    let boots = guard::unwound_call(|| builder.boot_test().is_some()).unwrap_or(false);
    let no_boot_test = no_boot_test.or_else(|| (!boots).then(|| cannot_boot(&cx.build.builder_type)));
    let reasons = Reasons { no_commands, no_boot_test };
    match place {
        Some(place) => (found.or_at(place), reasons),
        None => (found, reasons),
    }
}

/// What a provisioner has to say.
pub(crate) fn provisioner(provisioner: &dyn Provisioner, cx: &PrepareContext) -> Diagnostics {
    guard::unwound_call(|| provisioner.prepare(cx))
        .unwrap_or_else(|message| panicked("provisioner", &provisioner.type_name(), &message))
}

/// What a post-processor has to say.
pub(crate) fn post_processor(post_processor: &dyn PostProcessor, cx: &PrepareContext) -> Diagnostics {
    guard::unwound_call(|| post_processor.prepare(cx))
        .unwrap_or_else(|message| panicked("post-processor", &post_processor.type_name(), &message))
}

fn panicked(what: &str, name: &str, message: &str) -> Diagnostics {
    Diagnostic::error(format!("The {what} {name:?} panicked")).detail(message).into()
}

/// Errors of a step under one summary, with the component's own text as detail; warnings as they are.
fn under(summary: String, findings: Diagnostics, place: Option<&Location>) -> Diagnostics {
    let placed = |mut finding: Diagnostic| {
        if finding.is_error() {
            let own = std::mem::replace(&mut finding.summary, summary.clone());
            finding.detail = match finding.detail.as_str() {
                "" => own,
                detail => format!("{own}: {detail}"),
            };
        }
        match place {
            Some(place) => finding.or_at(place),
            None => finding,
        }
    };
    findings.into_iter().map(placed).collect()
}
