//! A machine that is up: how it is switched off, and what becomes of its disks.

use std::path::PathBuf;
use std::sync::Arc;

use packer_core::communicator::CommunicatorConfig;
use packer_core::communicator::ssh::KeyPair;
use packer_core::kit::ReservedPort;
use packer_core::kit::http_server::HttpServer;
use packer_core::{
    Artifact, CheckpointKey, Communicator, Context, Error, Facts, Machine, Resource, Result, async_trait,
};
use serde_json::json;
use tokio::sync::Mutex;

use super::boot::{Screen, show_failure};
use super::disks::{Chain, Disks};
use super::hypervisor::{Hypervisor, State};
use super::qmp::Qmp;
use super::tpm::Tpm;
use super::{Qemu, checkpoint, shutdown};

/// The kind of artifact that the image is.
const IMAGE: &str = "transcend.qemu";

pub(super) struct Vm {
    pub(super) vm: Qemu,
    /// How it is entered, with the port that leads to it.
    pub(super) config: CommunicatorConfig,
    pub(super) accelerator: String,
    pub(super) machine: Arc<Hypervisor>,
    pub(super) qmp: Option<Qmp>,
    pub(super) screen: Screen,
    pub(super) chain: Mutex<Chain>,
    pub(super) output: Option<Resource>,
    /// What QEMU says of itself.
    pub(super) version: String,
    pub(super) floppy: Option<PathBuf>,
    pub(super) efi_variables: Option<PathBuf>,
    pub(super) communicator: Arc<dyn Communicator>,
    pub(super) facts: Facts,
    pub(super) pair: Option<KeyPair>,
    // What has to last as long as the machine.
    pub(super) _tpm: Option<Tpm>,
    pub(super) _ports: [Option<ReservedPort>; 2],
    pub(super) _http: Option<HttpServer>,
}

#[async_trait]
impl Machine for Vm {
    fn communicator(&self) -> Arc<dyn Communicator> {
        self.communicator.clone()
    }

    fn facts(&self) -> &Facts {
        &self.facts
    }

    async fn capture(&self, cx: &Context) -> Result<Artifact> {
        if let (State::Runs, Some(pair)) = (self.machine.state(), &self.pair) {
            let cleared = self.config.clear_authorized_keys(cx, self.communicator.as_ref(), pair);
            cx.step("StepCleanupTempKeys", cleared).await?;
        }
        if !matches!(self.machine.state(), State::Ended(_)) || self.vm.communicator.kind() == "none" {
            let (communicator, qmp) = (self.communicator.as_ref(), self.qmp.as_ref());
            let off = shutdown::shut_down(&self.vm, cx, &self.machine, communicator, qmp, &self.screen);
            if let Err(error) = cx.step("stepShutdown", Box::pin(off)).await {
                let error = self.machine.explained(error);
                Box::pin(show_failure(&self.vm, cx, &self.machine, &self.screen, &error)).await;
                return Err(error);
            }
        }
        let mut chain = self.chain.lock().await;
        if chain.is_unfinished(&self.vm) {
            cx.step("stepConvertDisk", Box::pin(chain.finish(&self.vm, cx))).await?;
        }
        chain.clear()?;
        self.artifact(&chain.disks)
    }

    async fn checkpoint(&self, cx: &Context, key: &CheckpointKey) -> Result<Option<Resource>> {
        Box::pin(checkpoint::save(self, cx, key)).await.map(Some)
    }
}

impl Vm {
    fn artifact(&self, disks: &Disks) -> Result<Artifact> {
        let folder = &disks.folder;
        let mut files = Vec::new();
        for entry in std::fs::read_dir(folder).map_err(|e| Error::io("read", folder, e))? {
            let entry = entry.map_err(|e| Error::io("read", folder, e))?;
            let kind = entry.file_type().map_err(|e| Error::io("stat", entry.path(), e))?;
            let dropped = self.vm.efi_drop_efivars && entry.file_name() == "efivars.fd";
            if kind.is_file() && !dropped {
                files.push(entry.path());
            }
        }
        files.sort();
        let all: Vec<PathBuf> = disks.all(&self.vm);
        let names: Vec<_> =
            all.iter().filter_map(|path| path.file_name()).map(|n| n.to_string_lossy()).collect();
        let mut artifact = Artifact::new(IMAGE, "VM")
            .describe(format!("VM files in directory: {}", folder.display()))
            .files(files)
            .with("diskName", disks.name.as_str())
            .with("diskPaths", json!(names))
            .with("diskType", self.vm.image_format())
            .with("diskSize", self.vm.disk_size_text())
            .with("domainType", self.accelerator.as_str());
        artifact.resources.extend(self.output.clone());
        for (name, value) in self.facts.iter().filter(|(_, value)| !value.is_sensitive()) {
            if let Ok(value) = value.to_json() {
                artifact.generated_data.entry(name.clone()).or_insert(value);
            }
        }
        Ok(artifact)
    }
}
