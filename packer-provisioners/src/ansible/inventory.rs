//! The inventory: a file that tells Ansible where the machine is, made for one run.

use std::path::{Path, PathBuf};

use packer_core::kit::render;
use packer_core::{Context, Error, Resource, Result};

use super::Ansible;

/// Where Ansible finds the machine.
pub(super) struct Place {
    /// How it is reached: Packer's name of the communicator, or `ssh` through the proxy.
    pub(super) winrm: bool,
    pub(super) host: String,
    pub(super) port: u16,
    pub(super) user: String,
}

/// The text of the inventory.
pub(super) fn text(ansible: &Ansible, cx: &Context, place: &Place) -> Result<String> {
    let alias = if ansible.host_alias.is_empty() { "default" } else { &ansible.host_alias };
    let Place { winrm, host, port, user } = place;
    let line = if !ansible.inventory_file_template.is_empty() {
        let port = port.to_string();
        let known =
            [("HostAlias", alias), ("Host", host.as_str()), ("Port", port.as_str()), ("User", user.as_str())];
        render(cx, ansible.inventory_file_template.as_str(), &known)
            .map_err(|e| e.context("Error generating inventory file from template"))?
    } else if *winrm {
        format!(
            "{alias} ansible_host={host} ansible_connection=winrm ansible_winrm_transport=basic \
             ansible_shell_type=powershell ansible_user={user} ansible_port={port}\n"
        )
    } else if ansible.old.get() {
        format!("{alias} ansible_ssh_host={host} ansible_ssh_user={user} ansible_ssh_port={port}\n")
    } else {
        format!("{alias} ansible_host={host} ansible_user={user} ansible_port={port}\n")
    };
    let mut text = String::new();
    let mut section = |header: Option<&str>, line: &str| {
        if !text.is_empty() && !text.ends_with('\n') {
            text.push('\n');
        }
        if let Some(name) = header {
            text.push_str(&format!("[{name}]\n"));
        }
        text.push_str(line);
    };
    section(None, &line);
    ansible.groups.iter().for_each(|group| section(Some(group), &line));
    ansible.empty_groups.iter().for_each(|group| section(Some(group), ""));
    Ok(text)
}

/// The inventory's file; gone with this value, unless it is to stay.
pub(super) struct InventoryFile {
    cx: Context,
    /// As Ansible is told it.
    pub(super) path: PathBuf,
    /// `None` where the file stays.
    resource: Option<Resource>,
}

impl InventoryFile {
    /// Writes the file into a folder.
    pub(super) fn write(cx: &Context, folder: &Path, text: &str, keep: bool) -> Result<Self> {
        let number = uuid::Uuid::new_v4().as_u64_pair().0;
        let path = folder.join(format!("packer-provisioner-ansible{number}"));
        let resource = Resource::file(&path);
        if !keep {
            cx.record(resource.clone())?;
        }
        let file = Self { cx: cx.clone(), path, resource: (!keep).then_some(resource) };
        let mut options = std::fs::OpenOptions::new();
        options.write(true).create_new(true);
        #[cfg(unix)]
        std::os::unix::fs::OpenOptionsExt::mode(&mut options, 0o600);
        let written =
            options.open(&file.path).and_then(|mut f| std::io::Write::write_all(&mut f, text.as_bytes()));
        written.map_err(|e| {
            Error::io("write", &file.path, e).context("Error preparing inventory file for Ansible")
        })?;
        Ok(file)
    }
}

impl Drop for InventoryFile {
    fn drop(&mut self) {
        let Some(resource) = &self.resource else { return };
        match std::fs::remove_file(&self.path) {
            // What cannot be removed now stays in the ledger and is tried again with the build's cleanup.
            Err(e) if e.kind() != std::io::ErrorKind::NotFound => {}
            _ => drop(self.cx.released(resource)),
        }
    }
}
