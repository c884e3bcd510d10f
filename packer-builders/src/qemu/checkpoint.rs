//! States of a machine between two steps: what is on its disks, and what is in its memory.
//!
//! A machine that went on from its disks alone would have to boot again, and what a step left in memory (files in `/tmp`, a
//! program that runs) would be gone. The disks are files over each other; those that a state has are shared by hard links with the
//! states behind it, so that each holds only what its step has written.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};

use packer_core::communicator::{Communicator, CommunicatorExt};
use packer_core::kit::blocking::Stop;
use packer_core::{CheckpointKey, Context, Error, Resource, Result, kit};
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

use super::Qemu;
use super::disks::{self, Chain, Disks, on_disk};
use super::ground::EFI_VARIABLES;
use super::hypervisor::State;
use super::machine::Vm;
use super::qmp::Qmp;

/// What a state is called in the ledger.
pub(super) const KIND: &str = "checkpoint";
/// The file that says what a state is; the last one that is written.
const ACCOUNT: &str = "checkpoint.json";
/// What was in the memory.
const MEMORY: &str = "memory";

/// A state that was saved.
#[derive(Debug, Serialize, Deserialize)]
pub(super) struct Saved {
    #[serde(skip)]
    pub(super) folder: PathBuf,
    /// What QEMU said of itself: only the same reads its memory.
    version: String,
    pub(super) accelerator: String,
    /// How many files each disk is made of.
    pub(super) layers: usize,
}

impl Saved {
    pub(super) async fn read(checkpoint: &Resource) -> Result<Self> {
        let folder = PathBuf::from(&checkpoint.name);
        let path = folder.join(ACCOUNT);
        let text = tokio::fs::read(&path).await.map_err(|e| Error::io("open", &path, e))?;
        let wrong = |e| Error::user(format!("{}: it is damaged: {e}", path.display()));
        let saved: Self = serde_json::from_slice(&text).map_err(wrong)?;
        Ok(Self { folder, ..saved })
    }

    /// An error where another QEMU has saved it.
    pub(super) fn is_of(&self, version: &str) -> Result<()> {
        if self.version == version {
            return Ok(());
        }
        Err(Error::user(format!("it was saved by {:?}, and this is {version:?}", self.version)))
    }

    /// Makes the disks of a machine that goes on from here.
    pub(super) async fn disks(&self, vm: &Qemu, cx: &Context, disks: &Disks) -> Result<()> {
        let last = self.layers.saturating_sub(1);
        let form = Chain::form(vm, last);
        for disk in 0..disks.all(vm).len() {
            if vm.image_format() == "raw" {
                // Nothing lies over another file there.
                let from = self.folder.join(Chain::layer(disk, last));
                disks::rewrite_as(cx, "raw", &from, form, &disks.of(disk)).await?;
                continue;
            }
            let (from, to) = (self.folder.clone(), disks.folder.clone());
            let names: Vec<_> = (0..self.layers).map(|number| Chain::layer(disk, number)).collect();
            let link = move |stop: &Stop| names.iter().try_for_each(|name| link(stop, &from, &to, name));
            cx.blocking(link).await?;
            disks::overlay(cx, &disks.of(disk), &Chain::layer(disk, last), form).await?;
        }
        Ok(())
    }

    /// Reads the memory into a machine that waits for it, and lets the machine go on.
    pub(super) async fn load(&self, qmp: &Qmp) -> Result<()> {
        qmp.migrate("migrate-incoming", &format!("exec:cat {}", quoted(&self.folder.join(MEMORY)))).await?;
        qmp.go_on().await
    }
}

/// The clock of a machine stands where its state was saved: sets it, where the machine lets us.
pub(super) async fn set_clock(vm: &Qemu, cx: &Context, communicator: &dyn Communicator) -> Result<()> {
    let now =
        std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap_or_default().as_secs();
    let command = match vm.communicator.kind() {
        "winrm" => format!(
            "powershell -NoProfile -Command \"Set-Date ([DateTimeOffset]::FromUnixTimeSeconds({now}).LocalDateTime)\""
        ),
        _ => format!("date -u -s @{now} >/dev/null 2>&1 || sudo -n date -u -s @{now} >/dev/null 2>&1"),
    };
    match communicator.run(cx, &command).await {
        Ok(status) if status.success() => {}
        Err(e) if e.is_cancelled() => return Err(e),
        _ => cx.say_error("The machine's clock could not be set: it goes on from when the state was saved."),
    }
    Ok(())
}

/// Saves what a machine that runs has on its disks and in its memory; it stands still meanwhile.
pub(super) async fn save(vm: &Vm, cx: &Context, key: &CheckpointKey) -> Result<Resource> {
    if vm.pair.is_some() {
        return Err(Error::user(
            "a machine that is entered with a key of its own run is not saved: with a password \
             or ssh_private_key_file it would be",
        ));
    }
    let qmp = vm.qmp.as_ref().ok_or_else(|| {
        Error::user("without a way to QEMU's machine protocol (qmp_enable) the machine is not saved")
    })?;
    if vm.machine.state() != State::Runs {
        return Err(Error::user("the machine does not run any more"));
    }
    let short: String = key.0.chars().filter(char::is_ascii_alphanumeric).take(12).collect();
    let folder = cx.cache_dir().join("qemu/checkpoints").join(kit::unique_name(&short));
    let folder = std::path::absolute(&folder).map_err(|e| Error::io("mkdir", &folder, e))?;
    let resource = Resource::new(KIND, folder.to_string_lossy());
    let size =
        cx.own(resource.clone(), Box::pin(vm.machine.while_running(fill(vm, cx, qmp, &folder)))).await?;
    let resource = resource.with_details(json!({ "size": size }));
    cx.record(resource.clone())?;
    Ok(resource)
}

/// Fills the folder of a state; how much room it takes beyond what the states before it have.
async fn fill(vm: &Vm, cx: &Context, qmp: &Qmp, folder: &Path) -> Result<u64> {
    kit::private_folder(folder)?;
    let mut chain = vm.chain.lock().await;
    let count = chain.disks.all(&vm.vm).len();
    let nodes = nodes(vm, qmp, &chain).await?;
    let tops = chain.make_tops(&vm.vm, cx).await?;
    qmp.ask("stop", Value::Null).await?;
    let still = async {
        let actions: Vec<_> = nodes
            .iter()
            .zip(&tops)
            .enumerate()
            .map(|(disk, ((kind, node), top))| {
                let data = json!({
                    *kind: node,
                    "snapshot-file": top,
                    "snapshot-node-name": node_name(disk, chain.frozen() + 1),
                    "format": "qcow2",
                    "mode": "existing",
                });
                json!({ "type": "blockdev-snapshot-sync", "data": data })
            })
            .collect();
        qmp.ask("transaction", json!({ "actions": actions })).await?;
        chain.moved();
        if let Some(variables) = &vm.efi_variables {
            let copy = folder.join(EFI_VARIABLES);
            tokio::fs::copy(variables, &copy).await.map_err(|e| Error::io("copy", variables, e))?;
        }
        qmp.migrate("migrate", &format!("exec:cat > {}", quoted(&folder.join(MEMORY)))).await
    };
    let saved = Box::pin(still).await;
    if let Err(error) = qmp.go_on().await {
        // Nothing may wait for a machine that stands still.
        vm.machine.kill().await;
        return Err(error);
    }
    saved?;
    let layers = chain.frozen();
    let account = Saved {
        folder: folder.to_owned(),
        version: vm.version.clone(),
        accelerator: vm.accelerator.clone(),
        layers,
    };
    let from = chain.disks.folder.clone();
    drop(chain);
    cx.blocking(move |stop| seal(stop, &account, &from, count)).await
}

/// Puts the files of the disks to the memory, and last the account.
fn seal(stop: &Stop, saved: &Saved, from: &Path, disks: usize) -> Result<u64> {
    let folder = &saved.folder;
    for disk in 0..disks {
        (0..saved.layers).try_for_each(|number| link(stop, from, folder, &Chain::layer(disk, number)))?;
    }
    let mut size = 0;
    for entry in fs::read_dir(folder).map_err(|e| Error::io("read", folder, e))? {
        let path = entry.map_err(|e| Error::io("read", folder, e))?.path();
        let synced = fs::File::open(&path).and_then(|file| file.sync_all());
        synced.map_err(|e| Error::io("sync", &path, e))?;
        let name = path.file_name().unwrap_or_default().to_string_lossy();
        let earlier = name.starts_with(".layer-") && !name.ends_with(&format!("-{}", saved.layers - 1));
        size += if earlier { 0 } else { on_disk(&path).unwrap_or_default() };
    }
    let path = folder.join(ACCOUNT);
    let text = serde_json::to_vec(saved).map_err(|e| Error::internal(format!("a checkpoint: {e}")))?;
    let written = fs::File::create(&path).and_then(|mut file| {
        std::io::Write::write_all(&mut file, &text)?;
        file.sync_all()
    });
    written.map_err(|e| Error::io("write", &path, e))?;
    Ok(size)
}

fn node_name(disk: usize, number: usize) -> String {
    format!("packer-{disk}-{number}")
}

/// By what QEMU knows each disk. An error where the machine writes to something that would not be in its state.
async fn nodes(vm: &Vm, qmp: &Qmp, chain: &Chain) -> Result<Vec<(&'static str, String)>> {
    let real = |path: &Path| fs::canonicalize(path).ok();
    let tops: Vec<_> = (0..chain.disks.all(&vm.vm).len()).map(|disk| real(&chain.top(disk))).collect();
    let others: Vec<_> = vm.efi_variables.iter().chain(&vm.floppy).filter_map(|path| real(path)).collect();
    let said = qmp.ask("query-block", Value::Null).await?;
    let mut nodes = BTreeMap::new();
    for block in said.as_array().into_iter().flatten() {
        let text = |value: &Value, name: &str| {
            value.get(name).and_then(Value::as_str).unwrap_or_default().to_owned()
        };
        let Some(inserted) = block.get("inserted").filter(|inserted| inserted["ro"] != json!(true)) else {
            continue;
        };
        let (device, node, file) =
            (text(block, "device"), text(inserted, "node-name"), text(inserted, "file"));
        let path = real(Path::new(&file));
        let known = tops.iter().enumerate().position(|(disk, top)| {
            node == node_name(disk, chain.frozen()) || path.is_some() && *top == path
        });
        match known {
            Some(disk) if device.is_empty() => nodes.insert(disk, ("node-name", node)),
            Some(disk) => nodes.insert(disk, ("device", device)),
            None if path.is_some_and(|path| others.contains(&path)) => continue,
            None => {
                return Err(Error::user(format!(
                    "the machine writes to a file that is none of its disks, so that it is not saved: {file}"
                )));
            }
        };
    }
    let unused = |disk| {
        Error::user(format!(
            "the machine does not use its disk {}, so that it is not saved",
            chain.disks.of(disk).display()
        ))
    };
    (0..tops.len()).map(|disk| nodes.remove(&disk).ok_or_else(|| unused(disk))).collect()
}

/// A file of another folder in this one too; copied where it cannot be shared.
fn link(stop: &Stop, from: &Path, to: &Path, name: &str) -> Result<()> {
    let (from, to) = (from.join(name), to.join(name));
    match fs::hard_link(&from, &to) {
        Ok(()) => Ok(()),
        Err(_) => kit::copy_file(stop, None, &from, &to),
    }
}

/// A path for the shell that QEMU reads and writes through.
fn quoted(path: &Path) -> String {
    format!("'{}'", path.to_string_lossy().replace('\'', "'\\''"))
}

/// Removes a state.
pub(super) async fn release(cx: &Context, resource: &Resource) -> Result<()> {
    let path = PathBuf::from(&resource.name);
    if !path.components().any(|part| part.as_os_str() == "checkpoints") {
        return Err(Error::internal(format!("{resource} is not removed: its name is not one of ours")));
    }
    cx.blocking(move |_| match fs::remove_dir_all(&path) {
        Err(e) if e.kind() != std::io::ErrorKind::NotFound => Err(Error::io("remove", &path, e)),
        _ => Ok(()),
    })
    .await
}
