//! Which Ansible this computer has, asked before a build starts.

use std::io::Read;
use std::process::{Child, Command, Stdio};
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use packer_core::PrepareContext;

/// How long Ansible may take to say its version: it is a Python program, and disks may be slow.
const LIMIT: Duration = Duration::from_secs(60);

/// How much of its answer is read.
const MOST: u64 = 64 << 10;

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
    let child = Command::new(command)
        .arg("--version")
        .envs(&cx.host.env)
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn();
    let mut child = child.map_err(|e| failed(&e))?;
    let (stdout, stderr) = (child.stdout.take(), child.stderr.take());
    let (stdout, stderr) = (read(stdout), read(stderr));
    let status = wait(&mut child);
    let text = |reader: std::thread::JoinHandle<Vec<u8>>| {
        String::from_utf8_lossy(&reader.join().unwrap_or_default()).into_owned()
    };
    let Some(status) = status else {
        return Err(failed(&format!("it did not end within {} s", LIMIT.as_secs())));
    };
    let (said, complained) = (text(stdout), text(stderr));
    if !status.success() {
        return Err(failed(&format!("{status}: {}", complained.trim())));
    }
    parse(&said).ok_or_else(|| format!("Could not find {command} version in output:\n{}", said.trim_end()))
}

/// Reads on a thread of its own, so that no program is held up by a full pipe.
fn read(stream: Option<impl Read + Send + 'static>) -> std::thread::JoinHandle<Vec<u8>> {
    std::thread::spawn(move || {
        let mut bytes = Vec::new();
        if let Some(stream) = stream {
            // What cannot be read is not there.
            let _ = stream.take(MOST).read_to_end(&mut bytes);
        }
        bytes
    })
}

/// Waits for the end; `None` where it had to be killed.
fn wait(child: &mut Child) -> Option<std::process::ExitStatus> {
    let end = Instant::now() + LIMIT;
    loop {
        match child.try_wait() {
            Ok(Some(status)) => return Some(status),
            Ok(None) if Instant::now() < end => std::thread::sleep(Duration::from_millis(5)),
            _ => {
                let _ = child.kill();
                let _ = child.wait();
                return None;
            }
        }
    }
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
}
