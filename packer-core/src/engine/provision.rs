//! Provisioning: the steps of a build in order, each with its pause, limit, retries and pardon.

use std::time::{Duration, Instant};

use crate::builder::Machine;
use crate::context::{Context, PrepareContext};
use crate::duration::GoDuration;
use crate::engine::cache::Track;
use crate::engine::cleanup::{Component, Owners};
use crate::engine::{guard, prepare};
use crate::error::{Error, ErrorInfo, Fault, Result};
use crate::event::EventKind;
use crate::ledger::{Ledger, Resource, Role};
use crate::pipeline::{Build, Decoded, ProvisionStep, RunValues};
use crate::provisioner::Provisioner;

/// A provisioner as it was made for the try that succeeded.
type Made = Decoded<dyn Provisioner>;

/// Which steps of a build run.
#[derive(Clone, Copy, PartialEq)]
pub(crate) enum Part {
    /// Those that change the machine.
    Provision,
    /// Those that look at a machine which was started from the artifact.
    Test,
}

impl Part {
    fn steps(self, build: &Build) -> &[ProvisionStep] {
        match self {
            Self::Provision => &build.provisioners,
            Self::Test => &build.tests,
        }
    }

    /// What one of them is called, what it is called where a sentence begins, and what it does.
    fn words(self) -> (&'static str, &'static str, &'static str) {
        match self {
            Self::Provision => ("provisioner", "Provisioner", "provision"),
            Self::Test => ("test", "Test", "test"),
        }
    }
}

/// Where a step stands among those that run.
#[derive(Clone, Copy)]
struct Place {
    part: Part,
    number: usize,
    steps: usize,
}

/// Runs the provisioners of a build, or its tests, from number `from` on, and lets the cache save the state behind each.
///
/// # Errors
/// Of the first that fails, with its number.
#[expect(clippy::too_many_arguments, reason = "all of them are the engine's, and differ with each call")]
pub(crate) async fn all(
    build: &Build,
    part: Part,
    from: usize,
    cx: &Context,
    machine: &dyn Machine,
    values: &RunValues,
    owners: &mut Owners,
    mut track: Option<&mut Track>,
) -> Result<(), (usize, Error)> {
    let admitted = || part.steps(build).iter().enumerate().filter(|(_, s)| s.filter.admits(&build.source));
    let steps = admitted().count();
    for (number, (i, step)) in admitted().enumerate().skip_while(|(_, (i, _))| *i < from) {
        if build.info.debug {
            let question = format!(
                "Pausing before the next {} {}. Press enter to continue. ",
                part.words().0,
                step.name
            );
            cx.pause(&question).await.map_err(|e| (i, e))?;
        }
        if let Some(track) = &mut track {
            track.before(cx, i).await.map_err(|e| (i, e))?;
        }
        let made =
            one(build, step, Place { part, number: number + 1, steps }, cx, machine, values, owners).await;
        if let Some(track) = &mut track {
            match &made {
                Ok(Some(made)) => {
                    track.succeeded(cx, build, i, made, machine, owners).await.map_err(|e| (i, e))?
                }
                Ok(None) | Err(_) => track.failed(i),
            }
        }
        made.map_err(|e| (i, e))?;
    }
    Ok(())
}

/// Runs the provisioner that is for builds whose provisioners failed.
pub(crate) async fn cleanup(
    build: &Build,
    step: &ProvisionStep,
    cx: &Context,
    machine: &dyn Machine,
    values: &RunValues,
    owners: &mut Owners,
) -> Result<()> {
    let steps = build.provisioners.iter().filter(|s| s.filter.admits(&build.source)).count();
    one(build, step, Place { part: Part::Provision, number: 0, steps }, cx, machine, values, owners)
        .await
        .map(drop)
}

/// Runs one step with all that belongs to it. `None` where it failed and was pardoned.
async fn one(
    build: &Build,
    step: &ProvisionStep,
    Place { part, number, steps }: Place,
    cx: &Context,
    machine: &dyn Machine,
    values: &RunValues,
    owners: &mut Owners,
) -> Result<Option<Made>> {
    let (kind, given) = (|| step.kind.clone(), || step.name.clone());
    cx.emit(EventKind::ProvisionerStarted { provisioner: kind(), name: given(), number, steps });
    let began = Instant::now();
    let (_, noun, verb) = part.words();
    let name = match step.name.as_str() {
        "" => format!("{verb} with {}", step.kind),
        name => format!("{verb} with {} {name}", step.kind),
    };
    let work = async {
        let tries = async {
            let made = with_retries(build, step, part, cx, machine, values, owners).await?;
            // The machine's own work: the context of the builder owns what comes of it.
            let who = "the machine at the end of a step";
            if part == Part::Provision {
                guard::caught(who, machine.step_done(cx, &name)).await?;
            }
            Ok(made)
        };
        let result = cx.timed(&name, tries).await;
        if result.is_err() {
            clean(cx, machine, owners).await;
        }
        result.map_err(|error| match &step.location {
            Some(place) => error.at(place),
            None => error,
        })
    };
    let finished = |error| {
        let elapsed = began.elapsed();
        let (provisioner, name) = (kind(), given());
        cx.emit(EventKind::ProvisionerFinished { provisioner, name, number, steps, elapsed, error });
    };
    match cx.finishing(finished, &name, work).await {
        Err(error) if step.continue_on_error && !cx.is_cancelled() => {
            cx.say(format!(
                "Warning: {noun} failed with \"{error}\", but continue_on_error is set; continuing the build."
            ));
            cx.emit(EventKind::FailureIgnored { error: ErrorInfo::from(&error) });
            Ok(None)
        }
        result => result.map(Some),
    }
}

/// Tries a step until it succeeds or no try is left; the error is that of the first try.
async fn with_retries(
    build: &Build,
    step: &ProvisionStep,
    part: Part,
    cx: &Context,
    machine: &dyn Machine,
    values: &RunValues,
    owners: &mut Owners,
) -> Result<Made> {
    let mut first: Option<Error> = None;
    let mut left = step.max_retries;
    loop {
        let error = match attempt(build, step, part, cx, machine, values, owners).await {
            Ok(made) => return Ok(made),
            Err(error) => error,
        };
        if cx.is_cancelled() {
            return Err(error);
        }
        let first = first.get_or_insert(error);
        if left == 0 {
            break;
        }
        clean(cx, machine, owners).await;
        cx.say(format!("{} failed with \"{first}\", retrying with {left} trie(s) left", part.words().1));
        cx.emit(EventKind::Retrying { error: ErrorInfo::from(&*first), left });
        left -= 1;
    }
    if step.max_retries > 0 {
        cx.say("retry limit reached.");
    }
    Err(first.unwrap_or_else(|| Error::internal("a provisioner failed without an error")))
}

/// One try: pause, then the work within its limit.
async fn attempt(
    build: &Build,
    step: &ProvisionStep,
    part: Part,
    cx: &Context,
    machine: &dyn Machine,
    values: &RunValues,
    owners: &mut Owners,
) -> Result<Made> {
    let (noun, ..) = part.words();
    if !step.pause_before.is_zero() {
        cx.say(format!("Pausing {} before the next {noun}...", go(step.pause_before)));
        cx.sleep(step.pause_before).await?;
    }
    // Made anew for each try: its functions see the state of this moment.
    let made = make(build, step, cx, values)?;
    let provisioner = made.component.clone();
    let own = cx.for_component(Role::Provisioner, &step.kind);
    owners.begin(cx, Component::Provisioner(provisioner.clone()));
    let who = format!("the provisioner {:?}", step.kind);
    let Some(limit) = step.timeout.filter(|limit| !limit.is_zero()) else {
        let work = guard::caught(&who, provisioner.provision(&own, machine));
        return own.until_cancelled(work).await.map(|()| made);
    };
    cx.say(format!("Setting a {} timeout for the next {noun}...", go(limit)));
    let own = own.within(limit);
    let limited = tokio::time::timeout(limit, guard::caught(&who, provisioner.provision(&own, machine)));
    match own.until_cancelled(async { Ok(limited.await) }).await? {
        Ok(result) => result.map(|()| made),
        Err(_) => {
            cx.say_error(format!("Cancelling {noun} after a timeout..."));
            cx.emit(EventKind::TimedOut { limit });
            let message = format!("the {noun} did not end within {}", go(limit));
            let error = Error::new(Fault::Guest, message).retryable();
            Err(match cx.record_of_build().take_hung() {
                Some(step) => error.in_step(step),
                None => error,
            })
        }
    }
}

/// How long a machine may take to give back what a try left in it.
const CLEANING: Duration = Duration::from_secs(10);

/// Takes out of the machine what tries left there that did not come to their end. What stays is told at the end of the
/// build, where it did not go with the machine.
async fn clean(cx: &Context, machine: &dyn Machine, owners: &Owners) {
    let left = cx.record_of_build().owned.outstanding().into_iter().filter(Resource::is_in_machine);
    let cx = &cx.for_cleanup();
    let cleaned = async {
        for resource in left {
            let cx = &cx.for_component(resource.role, &resource.component);
            if let Component::Provisioner(provisioner) = owners.of(&resource)? {
                let who = format!("{} while cleaning up {resource}", resource.component);
                // What one cannot take out says nothing about the next.
                if guard::caught(&who, provisioner.clean(cx, machine, &resource)).await.is_ok() {
                    cx.released(&resource)?;
                }
            }
        }
        Ok::<(), Error>(())
    };
    let limited = tokio::time::timeout(CLEANING, cleaned);
    let _ = cx.until_cancelled(async { Ok(limited.await) }).await;
}

fn make(build: &Build, step: &ProvisionStep, cx: &Context, values: &RunValues) -> Result<Made> {
    let made = guard::unwound_call(|| step.provisioner.make_decoded(values)).map_err(|message| {
        Error::internal(format!("making the provisioner {:?} panicked: {message}", step.kind))
    })??;
    if step.provisioner.is_deferred() {
        prepare::register(made.config.is_some(), || made.component.config(), cx.secrets());
        let cx = PrepareContext::new(build.info.clone(), cx.run().host.clone());
        let found = prepare::provisioner(made.component.as_ref(), &cx);
        step.provisioner.locate(found).into_result(())?;
    }
    Ok(made)
}

fn go(duration: Duration) -> GoDuration {
    GoDuration::from(duration)
}
