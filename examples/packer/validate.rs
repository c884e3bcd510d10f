//! `packer validate`: says what is wrong with a template.

use packer_core::Diagnostics;

use crate::flags::{self, Flag};
use crate::template::{TemplateFlags, apart};
use crate::ui::Format;
use crate::{FAILED, OK, Session, registry};

pub(crate) const USAGE: &str = "Usage: packer validate [options] TEMPLATE

  Checks the syntax and the configuration of a template and its builds. Nothing is built.

Options:

  -evaluate-datasources        Read data sources; otherwise their values count as unknown.
  -except=foo,bar,baz          All builds and post-processors but these.
  -ignore-prerelease-plugins   Leave out plugins of unreleased versions.
  -json                        Findings as JSON, one a line.
  -machine-readable            Output for programs.
  -no-warn-undeclared-var      No warnings of names in variable files that the template does not declare.
  -only=foo,bar,baz            Only these builds.
  -portable                    Warn of what other programs that read templates do not know.
  -syntax-only                 Only check the syntax.
  -use-sequential-evaluation   Evaluate all data sources before all locals.
  -var 'key=value'             Set a variable; may be repeated.
  -var-file=path               Read variables from a file; may be repeated.
";

pub(crate) async fn run(mut session: Session, args: Vec<String>) -> u8 {
    let mut template = TemplateFlags::default();
    let (mut syntax_only, mut no_warn, mut data_sources, mut json) = (false, false, false, false);
    let mut portable = false;
    let mut flags = template.flags();
    flags.extend([
        ("syntax-only", Flag::Switch(&mut syntax_only)),
        ("no-warn-undeclared-var", Flag::Switch(&mut no_warn)),
        ("json", Flag::Switch(&mut json)),
        ("portable", Flag::Switch(&mut portable)),
        ("evaluate-datasources", Flag::Switch(&mut data_sources)),
    ]);
    let path = match flags::parse(&args, &mut flags) {
        Ok(arguments) => session.only_argument(arguments),
        Err(stop) => return session.misused(stop),
    };
    drop(flags);
    let Ok(path) = path else { return FAILED };
    if json {
        session.ui.format = Format::Json;
    }
    let inputs = template.inputs(&session).warn_on_undeclared(!no_warn).evaluate_data_sources(data_sources);
    let template = match session.load(&path, &inputs).await {
        Ok(template) => template,
        Err(code) => return code,
    };
    let not_portable = if portable { template.portability(&registry()) } else { Diagnostics::new() };
    if syntax_only {
        session.ui.diagnostics(&not_portable);
        session.ui.say("Syntax-only check passed. Everything looks okay.");
        return OK;
    }
    let pipeline = match session.pipeline(&template, inputs).await {
        Ok(pipeline) => pipeline,
        Err(code) => {
            session.ui.diagnostics(&not_portable);
            return code;
        }
    };
    let mut findings = not_portable;
    findings.append(pipeline.notes.clone());
    let (engine, preparing) = (session.engine(), pipeline.clone());
    // What components look into may be pipes too.
    match session.unless_stopped(apart(async move { engine.prepare(&preparing).await })).await {
        Ok(found) => findings.append(found),
        Err(code) => return code,
    }
    findings.scrub(&pipeline.secrets);
    session.ui.diagnostics(&findings);
    if findings.has_errors() {
        return FAILED;
    }
    session.ui.say("The configuration is valid.");
    OK
}
