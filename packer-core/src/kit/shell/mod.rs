//! What all components that run scripts share: which scripts, the variables they get, and the exit codes that are fine.

use std::collections::BTreeMap;

use crate::context::Context;
use crate::diagnostic::{Diagnostic, Diagnostics};
use crate::error::{Error, Fault, Result, os_text};
use crate::language::go_template::{Data, sprintf};

mod local;
pub mod process;

pub use local::LocalShell;

/// The variables a script gets, by name: Packer's own (`PACKER_BUILD_NAME`, `PACKER_BUILDER_TYPE`, and
/// `PACKER_HTTP_*` where the builder serves files), then `environment_vars` (`NAME=VALUE`), then `env`; of two with
/// the same name the later one counts. Values of the user's go through `escape`.
pub fn variables(
    cx: &Context,
    environment_vars: &[String],
    env: &BTreeMap<String, String>,
    escape: impl Fn(&str) -> String,
) -> BTreeMap<String, String> {
    let mut all = BTreeMap::new();
    all.insert("PACKER_BUILD_NAME".to_owned(), cx.build().name.clone());
    all.insert("PACKER_BUILDER_TYPE".to_owned(), cx.build().builder_type.clone());
    for (name, fact) in [
        ("PACKER_HTTP_ADDR", "PackerHTTPAddr"),
        ("PACKER_HTTP_IP", "PackerHTTPIP"),
        ("PACKER_HTTP_PORT", "PackerHTTPPort"),
    ] {
        // A builder that serves nothing says so by a text of this form.
        if let Some(value) = cx.facts().text(fact).filter(|v| !v.starts_with("ERR_HTTP_")) {
            all.insert(name.to_owned(), value);
        }
    }
    for pair in environment_vars {
        if let Some((name, value)) = pair.split_once('=') {
            all.insert(name.to_owned(), escape(value));
        }
    }
    all.extend(env.iter().map(|(name, value)| (name.clone(), escape(value))));
    all
}

/// Makes a value safe between the single quotes of a POSIX shell.
///
/// ```
/// use packer_core::kit::shell::posix_escape;
/// let command = format!("rm -f '{}'", posix_escape("it's here; or not"));
/// assert_eq!(command, r#"rm -f 'it'"'"'s here; or not'"#);
/// ```
pub fn posix_escape(value: &str) -> String {
    value.replace('\'', r#"'"'"'"#)
}

/// Each variable through `format` (Go's `printf`: first `%s` its name, second its value), one behind the other.
///
/// # Errors
/// Where the text gets too long.
pub fn flatten(format: &str, variables: &BTreeMap<String, String>) -> Result<String> {
    let mut text = String::new();
    for (name, value) in variables {
        let pair = [Data::from(name.as_str()), Data::from(value.as_str())];
        text.push_str(&sprintf(format, &pair).map_err(Error::user)?);
    }
    Ok(text)
}

/// Finds entries of `environment_vars` that are no `NAME=VALUE`.
pub fn check_variables(environment_vars: &[String]) -> Diagnostics {
    let mut found = Diagnostics::new();
    for pair in environment_vars {
        if pair.split_once('=').is_none_or(|(name, _)| name.is_empty()) {
            found.push(Diagnostic::error(format!("Environment variable not in format 'key=value': {pair}")));
        }
    }
    found
}

/// Finds scripts that are not there.
pub fn check_scripts<S: AsRef<str>>(scripts: impl IntoIterator<Item = S>) -> Diagnostics {
    let mut found = Diagnostics::new();
    for path in scripts {
        let path = path.as_ref();
        if let Err(e) = std::fs::metadata(path) {
            found.push(Diagnostic::error(format!("Bad script '{path}': stat {path}: {}", os_text(&e))));
        }
    }
    found
}

/// Refuses an exit code that is not among `valid` (empty: only 0).
///
/// ```
/// use packer_core::{ExitStatus, Fault, kit::shell::check_exit_code};
/// assert!(check_exit_code(ExitStatus::Code(2).code(), &[0, 2], Fault::Guest).is_ok());
/// let error = check_exit_code(ExitStatus::Signal(9).code(), &[], Fault::Guest).unwrap_err();
/// assert_eq!(error.message(), "Script exited with non-zero exit status: 137. Allowed exit codes are: [0]");
/// ```
///
/// # Errors
/// Names the code and those allowed.
pub fn check_exit_code<C>(code: C, valid: &[C], fault: Fault) -> Result<()>
where
    C: Copy + Default + PartialEq + std::fmt::Display,
{
    let only_zero = [C::default()];
    let valid = if valid.is_empty() { &only_zero } else { valid };
    if valid.contains(&code) {
        return Ok(());
    }
    let allowed: Vec<String> = valid.iter().map(C::to_string).collect();
    Err(Error::new(
        fault,
        format!(
            "Script exited with non-zero exit status: {code}. Allowed exit codes are: [{}]",
            allowed.join(" ")
        ),
    ))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn variable_formats() {
        let variables = [("A", "1"), ("B", "two words")].map(|(k, v)| (k.to_owned(), v.to_owned())).into();
        for (format, expected) in [
            ("%s='%s' ", "A='1' B='two words' "),
            ("export %s='%s'\n", "export A='1'\nexport B='two words'\n"),
            ("%[2]s=%[1]s 100%%;", "1=A 100%;two words=B 100%;"),
        ] {
            assert_eq!(flatten(format, &variables).unwrap(), expected, "{format}");
        }
    }

    #[test]
    fn variables_are_pairs_with_a_name() {
        let pairs = ["A=", "A=b=c", "NOVALUE", "=empty", ""].map(str::to_owned);
        let found: Vec<String> = check_variables(&pairs).iter().map(|d| d.summary.clone()).collect();
        assert_eq!(
            found,
            ["NOVALUE", "=empty", ""].map(|p| format!("Environment variable not in format 'key=value': {p}"))
        );
    }

    #[test]
    fn exit_codes() {
        assert!(check_exit_code(0, &[], Fault::Guest).is_ok());
        assert!(check_exit_code(3, &[0, 3], Fault::Guest).is_ok());
        let error = check_exit_code(0, &[2, 3], Fault::Guest).unwrap_err();
        assert_eq!(
            error.to_string(),
            "Script exited with non-zero exit status: 0. Allowed exit codes are: [2 3]"
        );
    }

    #[test]
    fn a_single_quote_leaves_its_quotes_and_comes_back() {
        assert_eq!(posix_escape("it's"), r#"it'"'"'s"#);
    }
}
