//! Post-processing: sequences of post-processors, and which artifacts stay.

use std::sync::Arc;
use std::time::Instant;

use crate::artifact::Artifact;
use crate::context::{Context, PrepareContext};
use crate::engine::cleanup::{self, Component, Owners};
use crate::engine::{guard, prepare};
use crate::error::{Error, Fault, Result};
use crate::event::EventKind;
use crate::facts::Facts;
use crate::pipeline::{Build, PostProcessStep, RunValues};
use crate::post_processor::{Keep, PostProcessor, Processed};

/// What post-processing led to.
pub(crate) struct Outcome {
    /// What exists now, in order.
    pub(crate) artifacts: Vec<Artifact>,
    /// What went wrong.
    pub(crate) error: Option<Error>,
}

/// Runs every sequence on the builder's artifact.
pub(crate) async fn all(
    build: &Build,
    original: Artifact,
    cx: &Context,
    values: &RunValues,
    owners: &mut Owners,
) -> Outcome {
    let sequences = sequences(build);
    let mut keep_original = sequences.is_empty();
    let mut artifacts = Vec::new();
    let mut errors: Vec<Error> = Vec::new();
    let steps = sequences.iter().map(Vec::len).sum();
    let mut before = 0;
    'sequences: for sequence in sequences {
        let mut prior: Option<Artifact> = None;
        let first = before + 1;
        before += sequence.len();
        for (number, step) in (first..).zip(sequence) {
            let input = prior.as_ref().unwrap_or(&original);
            let processed = match one(build, step, (number, steps), input, cx, values, owners).await {
                Ok(processed) => processed,
                Err(error) if cx.is_cancelled() => {
                    // What exists stays, and is named: an image that is finished is not thrown away.
                    artifacts.extend(prior);
                    artifacts.insert(0, original);
                    return Outcome { artifacts, error: Some(error) };
                }
                Err(error) => {
                    errors.push(error.context("Post-processor failed"));
                    // The artifact that the step was to work on stays and is named.
                    match prior {
                        Some(prior) => artifacts.push(prior),
                        None => keep_original = true,
                    }
                    continue 'sequences;
                }
            };
            let keep = keeps(processed.keep, step.keep_input_artifact);
            let Some(artifact) = processed.artifact else {
                continue 'sequences;
            };
            match prior.replace(artifact) {
                None => keep_original |= keep,
                Some(input) if keep => artifacts.push(input),
                Some(input) => {
                    let kept: Vec<&Artifact> = artifacts.iter().chain([&original]).chain(&prior).collect();
                    if let Err(error) = cleanup::discard(cx, owners, &input, &kept).await {
                        errors.push(error.context("Failed cleaning up prior artifact"));
                    }
                }
            }
        }
        artifacts.extend(prior);
    }
    if keep_original {
        artifacts.insert(0, original);
    } else {
        let kept: Vec<&Artifact> = artifacts.iter().collect();
        if let Err(error) = cleanup::discard(cx, owners, &original, &kept).await {
            errors.push(error.context("Error destroying builder artifact"));
        }
    }
    Outcome { artifacts, error: together(errors) }
}

/// The steps that run in this build; sequences without any do not count.
fn sequences(build: &Build) -> Vec<Vec<&PostProcessStep>> {
    let admitted = |sequence: &'_ Vec<PostProcessStep>| -> bool {
        sequence.iter().any(|step| step.filter.admits(&build.source))
    };
    let steps = |sequence| -> Vec<&PostProcessStep> {
        let sequence: &Vec<PostProcessStep> = sequence;
        sequence.iter().filter(|step| step.filter.admits(&build.source)).collect()
    };
    build.post_processors.iter().filter(|s| admitted(s)).map(steps).collect()
}

/// Whether the input of a step stays.
fn keeps(asked: Keep, user: Option<bool>) -> bool {
    match asked {
        Keep::Always => true,
        Keep::Yes => user.unwrap_or(true),
        Keep::No => user.unwrap_or(false),
    }
}

async fn one(
    build: &Build,
    step: &PostProcessStep,
    (number, steps): (usize, usize),
    input: &Artifact,
    cx: &Context,
    values: &RunValues,
    owners: &mut Owners,
) -> Result<Processed> {
    if cx.is_cancelled() {
        return Err(Error::cancelled());
    }
    cx.say(match step.name == step.kind {
        true => format!("Running post-processor: {}", step.kind),
        false => format!("Running post-processor: {} (type {})", step.name, step.kind),
    });
    let facts = Facts::from_json(&input.generated_data);
    let cx = cx.for_post_processor(&step.kind).with_facts(facts.clone());
    let (kind, given) = (|| step.kind.clone(), || step.name.clone());
    cx.emit(EventKind::PostProcessorStarted { kind: kind(), name: given(), number, steps });
    let began = Instant::now();
    let values = RunValues { facts, artifacts: values.artifacts.clone() };
    let work = async {
        let post_processor = make(build, step, &cx, &values)?;
        let who = format!("the post-processor {:?}", step.kind);
        owners.begin(&cx, Component::PostProcessor(post_processor.clone()));
        let mut processed = guard::caught(&who, post_processor.post_process(&cx, input.clone())).await?;
        if let Some(artifact) = &mut processed.artifact {
            cleanup::complete(&cx, artifact)?;
        }
        Ok(processed)
    };
    let name = match step.name.as_str() {
        "" => format!("post-process with {}", step.kind),
        name => format!("post-process with {} {name}", step.kind),
    };
    let work = async {
        cx.timed(&name, work).await.map_err(|error| match &step.location {
            Some(place) => error.at(place),
            None => error,
        })
    };
    let finished = |error| {
        let elapsed = began.elapsed();
        cx.emit(EventKind::PostProcessorFinished {
            kind: kind(),
            name: given(),
            number,
            steps,
            elapsed,
            error,
        });
    };
    cx.finishing(finished, &name, work).await
}

fn make(
    build: &Build,
    step: &PostProcessStep,
    cx: &Context,
    values: &RunValues,
) -> Result<Arc<dyn PostProcessor>> {
    let made = guard::unwound_call(|| step.post_processor.make(values)).map_err(|message| {
        Error::internal(format!("making the post-processor {:?} panicked: {message}", step.kind))
    })??;
    if step.post_processor.is_deferred() {
        prepare::register(false, || made.config(), cx.secrets());
        let cx = PrepareContext::new(build.info.clone(), cx.run().host.clone());
        let found = prepare::post_processor(made.as_ref(), &cx);
        step.post_processor.locate(found).into_result(())?;
    }
    Ok(made)
}

/// One error that lists all.
fn together(errors: Vec<Error>) -> Option<Error> {
    let first = errors.first()?;
    let (fault, step, place) = (first.fault(), first.step().map(str::to_owned), first.location().cloned());
    let lines: Vec<String> = errors.iter().map(|e| format!("* {e}")).collect();
    let message = format!("{} error(s) occurred:\n\n{}", errors.len(), lines.join("\n"));
    let mut error = Error::new(if fault == Fault::Cancelled { Fault::Internal } else { fault }, message);
    if let Some(step) = step {
        error = error.in_step(step);
    }
    if let Some(place) = place {
        error = error.at(&place);
    }
    Some(error)
}
