//! `packer init`: says whether what a template requires is there.

use crate::flags::{self, Flag};
use crate::template::TemplateFlags;
use crate::{FAILED, OK, Session, registry};

pub(crate) const USAGE: &str = "Usage: packer init [options] TEMPLATE

  Checks the plugins that a template requires. This program runs no plugins: the components of some are built into it,
  and a template that requires one of those needs nothing else.

Options:

  -force     Of no effect: there is nothing to install again.
  -upgrade   Of no effect: what is built in has the version of this program.
";

const NOTHING_REQUIRED: &str = "No plugins requirement found, make sure you reference a Packer config
containing a packer.required_plugins block. See
https://www.packer.io/docs/templates/hcl_templates/blocks/packer
for more info.";

const ONLY_HCL: &str = "Error: Packer plugins currently only works with HCL2 configuration templates

Please manually install plugins with the plugins command or use a HCL2
configuration that will do that for you.";

pub(crate) async fn run(mut session: Session, args: Vec<String>) -> u8 {
    let mut template = TemplateFlags::default();
    let (mut force, mut upgrade) = (false, false);
    let mut flags = template.flags();
    flags.extend([("force", Flag::Switch(&mut force)), ("upgrade", Flag::Switch(&mut upgrade))]);
    let path = match flags::parse(&args, &mut flags) {
        Ok(arguments) => session.only_argument(arguments),
        Err(stop) => return session.misused(stop),
    };
    drop(flags);
    let Ok(path) = path else { return FAILED };
    let inputs = template.inputs(&session);
    if !session.is_hcl(&path) {
        session.ui.error(ONLY_HCL);
        return FAILED;
    }
    let template = match session.load(&path, &inputs).await {
        Ok(template) => template,
        Err(code) => return code,
    };
    if template.required_plugins().is_empty() {
        session.ui.say(NOTHING_REQUIRED);
        return OK;
    }
    let registry = registry();
    for plugin in template.required_plugins().iter().filter(|plugin| registry.is_provided(&plugin.source)) {
        session.ui.say(&format!("{} is built in", plugin.source));
    }
    let missing = template.check_plugins(&registry);
    if missing.is_empty() { OK } else { session.failed(&missing) }
}
