//! `packer build`: runs a template's builds.

use std::sync::Arc;

use packer_core::event::Timeline;
use packer_core::template::Template;
use packer_core::{
    Diagnostic, Diagnostics, Engine, Event, EventSink, FileLedger, Ledger, OnError, Pipeline, Report,
};

use crate::cache::CacheFlags;
use crate::flags::{self, Flag};
use crate::template::TemplateFlags;
use crate::ui::{Format, Look};
use crate::{FAILED, OK, Session, registry};

pub(crate) const USAGE: &str = "Usage: packer build [options] TEMPLATE

  Runs the builds of a template, several at once, and lists the artifacts.

Options:

  -cache                       Save the state of machines behind each step, and start from the last saved state whose
                               inputs are still the same.
  -cache-bytes=N               Keep at most N bytes of saved states (default 20 GiB).
  -cache-states=N              Keep at most N saved states (default 100).
  -color=false                 No colours.
  -debug                       One build at a time, with a pause after each step.
  -except=foo,bar,baz          All builds and post-processors but these.
  -force                       Replace outputs that exist.
  -ignore-prerelease-plugins   Leave out plugins of unreleased versions.
  -json                        One event a line, as JSON.
  -machine-readable            Output for programs.
  -on-error=POLICY             What to do when a build fails: cleanup (default), abort, ask,
                               run-cleanup-provisioner.
  -only=foo,bar,baz            Only these builds.
  -parallel-builds=N           At most N builds at once; 0 (default) is no limit.
  -timeline=FILE               Draw the run as a page of HTML: builds, steps, logs.
  -timestamp-ui                The time before each message.
  -use-sequential-evaluation   Evaluate all data sources before all locals.
  -var 'key=value'             Set a variable; may be repeated.
  -var-file=path               Read variables from a file; may be repeated.
  -warn-on-undeclared-var      Warn of names in variable files that the template does not declare.

  An interrupt cancels the builds and removes what they made; a second one ends that too. What is left then, or after
  the process was killed, `packer recover` removes.
";

/// The flags of this command beside those of all templates.
#[derive(Debug)]
struct BuildFlags {
    color: bool,
    debug: bool,
    force: bool,
    timestamps: bool,
    warn_on_undeclared: bool,
    /// Taken and without effect: there is no registry that enforces provisioners.
    skip_enforcement: bool,
    parallel: i64,
    on_error: String,
    timeline: String,
    cache: CacheFlags,
    use_cache: bool,
}

pub(crate) async fn run(mut session: Session, args: Vec<String>) -> u8 {
    let mut template = TemplateFlags::default();
    let mut build = BuildFlags {
        color: true,
        debug: false,
        force: false,
        timestamps: false,
        warn_on_undeclared: false,
        skip_enforcement: false,
        parallel: 0,
        on_error: String::new(),
        timeline: String::new(),
        cache: CacheFlags::default(),
        use_cache: false,
    };
    // Only `-machine-readable`, spelled so, has an effect, and that is taken out of the arguments before.
    let (mut json, mut other_spelling) = (false, false);
    let mut flags = template.flags();
    flags.extend([
        ("json", Flag::Switch(&mut json)),
        ("color", Flag::Switch(&mut build.color)),
        ("debug", Flag::Switch(&mut build.debug)),
        ("force", Flag::Switch(&mut build.force)),
        ("timestamp-ui", Flag::Switch(&mut build.timestamps)),
        ("warn-on-undeclared-var", Flag::Switch(&mut build.warn_on_undeclared)),
        ("skip-enforcement", Flag::Switch(&mut build.skip_enforcement)),
        ("machine-readable", Flag::Switch(&mut other_spelling)),
        ("parallel-builds", Flag::Number(&mut build.parallel)),
        ("timeline", Flag::Text(&mut build.timeline)),
        (
            "on-error",
            Flag::Word(&mut build.on_error, &["cleanup", "abort", "ask", "run-cleanup-provisioner"]),
        ),
    ]);
    flags.push(("cache", Flag::Switch(&mut build.use_cache)));
    flags.extend(build.cache.flags());
    let path = match flags::parse(&args, &mut flags) {
        Ok(arguments) => session.only_argument(arguments),
        Err(stop) => return session.misused(stop),
    };
    drop(flags);
    let Ok(path) = path else { return FAILED };
    if json {
        session.ui.format = Format::Json;
    }
    let inputs = template.inputs(&session).warn_on_undeclared(build.warn_on_undeclared);
    let template = match session.load(&path, &inputs).await {
        Ok(template) => template,
        Err(code) => return code,
    };
    let pipeline = match session.pipeline(&template, inputs).await {
        Ok(pipeline) => pipeline,
        Err(code) => return code,
    };
    if let Some(finding) = nothing_to_do(&session, &template, &pipeline) {
        let mut findings = pipeline.notes.clone();
        findings.push(finding);
        return session.failed(&findings);
    }
    run_pipeline(session, build, pipeline).await
}

/// Why a pipeline is not run although nothing is wrong with it.
fn nothing_to_do(session: &Session, template: &Template, pipeline: &Pipeline) -> Option<Diagnostic> {
    let switched_off = |v: &String| matches!(v.to_lowercase().as_str(), "off" | "0");
    if let Some(place) = template.registry_block()
        && !session.env.get("HCP_PACKER_REGISTRY").is_some_and(switched_off)
    {
        let detail = "This program does not talk to an HCP Packer registry.";
        let help = "set HCP_PACKER_REGISTRY=off to build without one";
        return Some(
            Diagnostic::error("HCP Packer registry not available").detail(detail).help(help).at(place),
        );
    }
    let detail =
        "There is nothing to build. If -only or -except was given, check that it leaves at least one build.";
    pipeline.builds.is_empty().then(|| Diagnostic::error("No builds to run").detail(detail))
}

async fn run_pipeline(mut session: Session, flags: BuildFlags, pipeline: Pipeline) -> u8 {
    // The word is one of those the flag takes, all of which the engine knows.
    let on_error: OnError = flags.on_error.parse().unwrap_or_default();
    let mut engine = session
        .engine()
        .parallel(usize::try_from(flags.parallel).unwrap_or(0))
        .on_error(on_error)
        .force(flags.force)
        .debug(flags.debug)
        .registry(registry());
    if flags.use_cache {
        engine = engine.cache(flags.cache.cache(&session));
    }
    if let Some(id) = session.env.get("PACKER_RUN_UUID").filter(|id| !id.is_empty()) {
        engine = engine.run_id(id);
    }
    let look =
        Look { color: flags.color && session.ui.format == Format::Human, timestamps: flags.timestamps };
    let sink = session.ui.sink(look, &session.env);
    engine = engine.events(move |event: &Event| sink.event(event));
    if let Some(bars) = session.bars.clone() {
        engine = engine.events(bars);
    }
    let timeline = (!flags.timeline.is_empty()).then(|| Arc::new(Timeline::new().write_to(&flags.timeline)));
    if let Some(page) = timeline.clone() {
        engine = engine.events(move |event: &Event| page.event(event));
    }
    let ledger = match session.ledgers().create() {
        Ok(ledger) => {
            let ledger = Arc::new(ledger);
            engine = engine.ledger(ledger.clone());
            Some(ledger)
        }
        Err(error) => {
            let text =
                "There is no ledger on disk, so nothing could be recovered if this process were killed";
            session.ui.error(&format!("{text}: {error}"));
            None
        }
    };
    let result = watch(&mut session, &engine, pipeline).await;
    drop(engine);
    if let Some(left) = ledger.and_then(|ledger| close(&ledger)) {
        session.ui.error(&left);
    }
    if let Some(error) = timeline.and_then(|page| page.failure()) {
        session.ui.error(&format!("The timeline is missing: {error}"));
    }
    match result {
        Ok(report) if report.succeeded() => OK,
        Ok(_) => FAILED,
        Err(findings) => session.failed(&findings),
    }
}

/// Runs the pipeline to its end. The first signal cancels it, the second ends cleanup too.
async fn watch(session: &mut Session, engine: &Engine, pipeline: Pipeline) -> Result<Report, Diagnostics> {
    let run = engine.start(pipeline)?;
    let control = run.control();
    let report = run.report();
    tokio::pin!(report);
    let mut signals = 0;
    loop {
        tokio::select! {
            report = &mut report => return report,
            Some(reason) = session.signals.recv() => {
                signals += 1;
                if signals == 1 { control.cancel(reason) } else { control.abandon_cleanup() }
            }
        }
    }
}

/// Removes a ledger in which nothing is left; else how to remove what is.
fn close(ledger: &FileLedger) -> Option<String> {
    let left = ledger.outstanding().len();
    if left == 0 {
        // One that cannot be removed is found empty by the next recovery.
        let _ = ledger.finish();
        return None;
    }
    let things = if left == 1 { "1 thing is" } else { &format!("{left} things are") };
    let path = ledger.path().display();
    Some(format!("{things} left behind. To remove what is: packer recover {path}"))
}

#[cfg(test)]
mod tests {
    use super::*;
    use packer_core::Resource;

    #[test]
    fn a_ledger_is_removed_when_nothing_is_left_in_it() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("run.jsonl");
        let ledger = FileLedger::open(&path).unwrap();
        let container = Resource::new("container", "c");
        ledger.record(&container).unwrap();
        let hint = format!("1 thing is left behind. To remove what is: packer recover {}", path.display());
        assert_eq!(close(&ledger), Some(hint));
        ledger.released(container.id).unwrap();
        assert_eq!((close(&ledger), path.exists()), (None, false));
    }
}
