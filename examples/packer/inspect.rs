//! `packer inspect`: says what is in a template.

use packer_core::template::InspectLine;

use crate::flags;
use crate::template::{TemplateFlags, apart};
use crate::{FAILED, OK, Session, registry};

pub(crate) const USAGE: &str = "Usage: packer inspect [options] TEMPLATE

  Lists the variables, locals and builds of a template. Data sources are read.

Options:

  -machine-readable            Output for programs.
  -use-sequential-evaluation   Evaluate all data sources before all locals.
  -var 'key=value'             Set a variable; may be repeated.
  -var-file=path               Read variables from a file; may be repeated.
";

const TITLE: &str = "Packer Inspect: HCL2 mode\n";

pub(crate) async fn run(mut session: Session, args: Vec<String>) -> u8 {
    let mut template = TemplateFlags::default();
    let path = match flags::parse(&args, &mut template.flags()) {
        Ok(arguments) => session.only_argument(arguments),
        Err(stop) => return session.misused(stop),
    };
    let Ok(path) = path else { return FAILED };
    let inputs = template.inputs(&session);
    let template = match session.load(&path, &inputs).await {
        Ok(template) => template,
        Err(code) => return code,
    };
    let work = apart(async move { template.inspect(&registry(), inputs).await });
    let inspection = match session.unless_stopped(work).await {
        Ok(Ok(inspection)) => inspection,
        Ok(Err(findings)) => return session.failed(&findings),
        Err(code) => return code,
    };
    if let Some(legacy) = &inspection.legacy {
        for line in legacy.lines() {
            let shown = |text: &str| inspection.secrets.scrub_prose(text).into_owned();
            match line {
                InspectLine::Say(text) => session.ui.say(&shown(&text)),
                InspectLine::Tell(category, fields) => {
                    let fields: Vec<String> = fields.iter().map(|field| shown(field)).collect();
                    session.ui.machine(category, &fields.iter().map(String::as_str).collect::<Vec<_>>());
                }
                _ => {}
            }
        }
        return OK;
    }
    // Three messages, as programs that read `-machine-readable` know them. What went wrong is not told, only what
    // comes of it: an inspection shows what there is.
    let (text, values) = (inspection.to_string(), inspection.values());
    let builds =
        text.strip_prefix(TITLE).and_then(|t| t.strip_prefix('\n')).and_then(|t| t.strip_prefix(&values));
    match builds {
        Some(builds) => {
            for message in [TITLE, values.strip_suffix('\n').unwrap_or(&values), builds] {
                session.ui.say(message);
            }
        }
        None => session.ui.say(&text),
    }
    OK
}
