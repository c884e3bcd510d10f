//! What all provisioners that run scripts in a machine are told: lines or files, and variables.

use packer_core::kit::shell;
use packer_core::{Diagnostic, Diagnostics};

/// The script files, in order.
pub(crate) fn files<'a>(script: &'a str, scripts: &'a [String]) -> impl Iterator<Item = &'a str> {
    scripts.iter().map(String::as_str).chain((!script.is_empty()).then_some(script))
}

/// What is wrong with such options, in Packer's words.
pub(crate) fn check(
    inline: &[String],
    script: &str,
    scripts: &[String],
    environment_vars: &[String],
) -> Diagnostics {
    let mut found = Diagnostics::new();
    if !script.is_empty() && !scripts.is_empty() {
        found.push(Diagnostic::error("Only one of script or scripts can be specified."));
    }
    match (inline.is_empty(), files(script, scripts).next().is_none()) {
        (true, true) => {
            found.push(Diagnostic::error("Either a script file or inline script must be specified."));
        }
        (false, false) => found
            .push(Diagnostic::error("Only a script file or an inline script can be specified, not both.")),
        _ => {}
    }
    found.append(shell::check_scripts(files(script, scripts)));
    found.append(shell::check_variables(environment_vars));
    found
}
