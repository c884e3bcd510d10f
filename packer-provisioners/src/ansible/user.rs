//! The name of the user who runs this.

use packer_core::Host;

/// The user's name as the system knows it, else as the host's variables say.
pub(super) fn current(host: &Host) -> Option<String> {
    let said = |name: &str| host.env.get(name).filter(|value| !value.is_empty()).cloned();
    known().or_else(|| ["USER", "LOGNAME", "USERNAME"].into_iter().find_map(said))
}

#[cfg(unix)]
fn known() -> Option<String> {
    let id = rustix::process::getuid().as_raw().to_string();
    let users = std::fs::read_to_string("/etc/passwd").ok()?;
    let mut lines = users.lines().map(|line| line.split(':').collect::<Vec<_>>());
    lines.find(|fields| fields.get(2) == Some(&id.as_str())).map(|fields| fields[0].to_owned())
}

#[cfg(not(unix))]
fn known() -> Option<String> {
    None
}
