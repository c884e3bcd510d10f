//! `packer plugins`: answers for what is built in, as plugins cannot be run.

use packer_core::template::{VersionConstraint, check_plugin_source};

use crate::flags::{self, Flag};
use crate::template::TemplateFlags;
use crate::{FAILED, OK, Session, registry};

pub(crate) const USAGE: &str = "Usage: packer plugins <subcommand> [options] [args]

  This program runs no plugins. The components of some are built into it; these commands tell which.

Subcommands:

    install [-path=FILE] [-force] PLUGIN [VERSION]   Say whether a plugin is built in
    installed                                        List the installed plugins: there are none
    remove PLUGIN [VERSION]                          Remove an installed plugin: there are none
    required TEMPLATE                                List what a template requires, and what of it is built in
";

pub(crate) async fn run(session: Session, args: Vec<String>) -> u8 {
    let Some((subcommand, rest)) = args.split_first() else {
        session.ui.say(USAGE);
        return FAILED;
    };
    match subcommand.as_str() {
        "install" => install(session, rest),
        "installed" => installed(session, rest),
        "remove" => remove(session, rest),
        "required" => required(session, rest).await,
        _ => {
            session.ui.say(USAGE);
            FAILED
        }
    }
}

fn install(session: Session, args: &[String]) -> u8 {
    let (mut path, mut force) = (String::new(), false);
    let mut flags = [("path", Flag::Text(&mut path)), ("force", Flag::Switch(&mut force))];
    let source = match flags::parse(args, &mut flags) {
        Ok(arguments) => plugin(&session, arguments),
        Err(stop) => return session.misused(stop),
    };
    let Ok(source) = source else { return FAILED };
    if registry().is_provided(&source) && path.is_empty() {
        session.ui.say(&format!("{source} is built in"));
        return OK;
    }
    session.ui.error(&format!(
        "{source} cannot be installed: it is not built in, and this program cannot run other programs' plugins yet."
    ));
    FAILED
}

fn remove(session: Session, args: &[String]) -> u8 {
    let source = match flags::parse(args, &mut []) {
        // The file of an installed plugin: there are none.
        Ok([path]) if std::path::Path::new(path).is_absolute() => Ok(path.clone()),
        Ok(arguments) => plugin(&session, arguments),
        Err(stop) => return session.misused(stop),
    };
    let Ok(source) = source else { return FAILED };
    let why = match registry().is_provided(&source) {
        true => "is built in and cannot be removed",
        false => "is not installed",
    };
    session.ui.error(&format!("{source} {why}."));
    FAILED
}

fn installed(session: Session, args: &[String]) -> u8 {
    match flags::parse(args, &mut []) {
        // Programs read this list as paths, so what is built in is not on it.
        Ok([]) => OK,
        Ok(_) => {
            session.ui.say(USAGE);
            FAILED
        }
        Err(stop) => session.misused(stop),
    }
}

async fn required(mut session: Session, args: &[String]) -> u8 {
    let mut template = TemplateFlags::default();
    let path = match flags::parse(args, &mut template.flags()) {
        Ok(arguments) => session.only_argument(arguments),
        Err(stop) => return session.misused(stop),
    };
    let Ok(path) = path else { return FAILED };
    if !session.is_hcl(&path) {
        session.ui.error("Error: Packer plugins currently only works with HCL2 configuration templates");
        return FAILED;
    }
    let inputs = template.inputs(&session);
    let template = match session.load(&path, &inputs).await {
        Ok(template) => template,
        Err(code) => return code,
    };
    let registry = registry();
    for plugin in template.required_plugins() {
        let built_in = if registry.is_provided(&plugin.source) { " (built in)" } else { "" };
        let (name, source, version) = (&plugin.name, &plugin.source, plugin.version.to_string());
        session.ui.say(&format!("{name} {source} {version:?}{built_in}"));
    }
    OK
}

/// The plugin that arguments name; where they do not it has been said why.
fn plugin(session: &Session, arguments: &[String]) -> Result<String, u8> {
    let (source, version) = match arguments {
        [source] => (source, None),
        [source, version] => (source, Some(version)),
        _ => {
            session.ui.say(USAGE);
            return Err(FAILED);
        }
    };
    let wrong = |message: &str| {
        session.ui.error(message);
        FAILED
    };
    check_plugin_source(source).map_err(|message| wrong(&message))?;
    match version {
        Some(version) if VersionConstraint::parse(version).is_none() => {
            Err(wrong(&format!("{version:?} is no version constraint: write \">= 1.7.0\" or \"1.2.3\".")))
        }
        _ => Ok(source.clone()),
    }
}
