//! Which Ansible this computer has, asked before a build starts.

use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use packer_core::kit::process::Program;
use packer_core::{ExitStatus, PrepareContext};

/// How long Ansible may take to say its version: it is a Python program, and disks may be slow.
const LIMIT: Duration = Duration::from_secs(60);

/// How much of its answer is read.
const MOST: usize = 64 << 10;

/// Whether the Ansible that was found is older than 2.0, whose inventories have other names.
#[derive(Debug, Default)]
pub(super) struct Old(AtomicBool);

impl Old {
    pub(super) fn set(&self, old: bool) {
        self.0.store(old, Ordering::Relaxed);
    }

    pub(super) fn get(&self) -> bool {
        self.0.load(Ordering::Relaxed)
    }
}

impl Clone for Old {
    fn clone(&self) -> Self {
        Self(AtomicBool::new(self.get()))
    }
}

impl PartialEq for Old {
    /// What was found out is no part of a configuration.
    fn eq(&self, _: &Self) -> bool {
        true
    }
}

/// The version of an `ansible-playbook`, its numbers from left to right.
///
/// # Errors
/// Why it is not known, in words.
pub(super) fn ask(cx: &PrepareContext, command: &str) -> Result<Vec<u32>, String> {
    let failed = |why: &dyn std::fmt::Display| {
        format!(
            "Error running \"{command} --version\": {why}. Install Ansible (the package ansible-core) on this computer, or \
             say with `command` where it is."
        )
    };
    let program = Program::new(command).arg("--version");
    let said = program.ask(cx, MOST, LIMIT).map_err(|e| failed(&e))?;
    if !said.status.success() {
        let status = match said.status {
            ExitStatus::Signal(signal) => format!("it was ended by signal {signal}"),
            status => format!("it ended with {}", status.code()),
        };
        return Err(failed(&format!("{status}: {}", said.stderr_text())));
    }
    let said = said.stdout_text();
    parse(&said).ok_or_else(|| format!("Could not find {command} version in output:\n{said}"))
}

/// Finds a version: a word, a blank, and numbers with dots between them.
fn parse(text: &str) -> Option<Vec<u32>> {
    for (at, _) in text.match_indices(' ') {
        let (before, after) = (&text[..at], &text[at + 1..]);
        if !before.ends_with(|c: char| c.is_alphanumeric() || c == '_') {
            continue;
        }
        let end = after.find(|c: char| !c.is_ascii_digit() && c != '.').unwrap_or(after.len());
        let numbers: Vec<u32> = after[..end].split('.').map_while(|part| part.parse().ok()).collect();
        if numbers.len() >= 2 {
            return Some(numbers);
        }
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn versions_of_old_and_new_ansible_are_found() {
        assert_eq!(parse("ansible-playbook [core 2.14.18]\n  config file = None"), Some(vec![2, 14, 18]));
        assert_eq!(parse("ansible-playbook 1.9.6\n  configured"), Some(vec![1, 9, 6]));
        assert_eq!(parse("ansible-playbook 2.9.27.post0"), Some(vec![2, 9, 27]));
        assert_eq!(parse("who knows 3"), None);
        assert_eq!(parse(""), None);
    }

    #[test]
    fn what_is_missing_is_said_with_what_to_do() {
        let error = ask(&PrepareContext::default(), "/no/such/ansible-playbook").unwrap_err();
        assert!(error.contains("/no/such/ansible-playbook") && error.contains("ansible-core"), "{error}");
    }

    #[cfg(unix)]
    #[test]
    fn a_wrapper_is_not_waited_for_longer_than_it_runs() {
        let script = "#!/bin/sh\nsleep 60 &\necho 'ansible-playbook [core 2.16.3]'\n";
        let folder = tempfile::tempdir().unwrap();
        let wrapper = folder.path().join("ansible-playbook");
        std::fs::write(&wrapper, script).unwrap();
        let all = std::os::unix::fs::PermissionsExt::from_mode(0o755);
        std::fs::set_permissions(&wrapper, all).unwrap();
        let began = std::time::Instant::now();
        let asked = ask(&PrepareContext::default(), wrapper.to_str().unwrap());
        assert_eq!(asked, Ok(vec![2, 16, 3]));
        assert!(began.elapsed() < Duration::from_secs(10), "{:?}", began.elapsed());
    }
}
