//! `packer plan`: says what a build would do. Not one of Packer's commands.

use crate::cache::CacheFlags;
use crate::flags::{self, Flag};
use crate::template::TemplateFlags;
use crate::ui::Format;
use crate::{FAILED, OK, Session};

pub(crate) const USAGE: &str = "Usage: packer plan [options] TEMPLATE

  Shows what `packer build` would do, without doing it: the builds in their order, their steps, the configuration of each
  with secrets masked, what would be taken from the step cache, and why the rest would run. Data sources are read.

Options:

  -cache=false                 Say nothing of the step cache, as a build without -cache uses none.
  -except=foo,bar,baz          All builds and post-processors but these.
  -json                        The plan as JSON.
  -only=foo,bar,baz            Only these builds.
  -use-sequential-evaluation   Evaluate all data sources before all locals.
  -var 'key=value'             Set a variable; may be repeated.
  -var-file=path               Read variables from a file; may be repeated.
";

pub(crate) async fn run(mut session: Session, args: Vec<String>) -> u8 {
    let mut template = TemplateFlags::default();
    let (mut json, mut cached) = (false, true);
    let mut flags = template.flags();
    flags.extend([("json", Flag::Switch(&mut json)), ("cache", Flag::Switch(&mut cached))]);
    let path = match flags::parse(&args, &mut flags) {
        Ok(arguments) => session.only_argument(arguments),
        Err(stop) => return session.misused(stop),
    };
    drop(flags);
    let Ok(path) = path else { return FAILED };
    if json {
        session.ui.format = Format::Json;
    }
    let inputs = template.inputs(&session);
    let template = match session.load(&path, &inputs).await {
        Ok(template) => template,
        Err(code) => return code,
    };
    let pipeline = match session.pipeline(&template, inputs).await {
        Ok(pipeline) => pipeline,
        Err(code) => return code,
    };
    let mut engine = session.engine();
    if cached {
        engine = engine.cache(CacheFlags::default().cache(&session));
    }
    let plan = match session.unless_stopped(async move { engine.plan(&pipeline).await }).await {
        Ok(Ok(plan)) => plan,
        Ok(Err(findings)) => return session.failed(&findings),
        Err(code) => return code,
    };
    if json {
        session.ui.document(&plan);
    } else {
        session.ui.diagnostics(&plan.diagnostics);
        session.ui.say(plan.to_string().trim_end_matches('\n'));
    }
    if plan.diagnostics.has_errors() { FAILED } else { OK }
}
