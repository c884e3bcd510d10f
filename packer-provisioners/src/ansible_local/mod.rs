//! The provisioner `ansible-local`: runs playbooks in the machine, with the Ansible that is installed there.

use std::path::{Component, Path, PathBuf};

use packer_core::config;
use packer_core::error::os_text;
use packer_core::kit::render;
use packer_core::kit::shell::posix_escape;
use packer_core::{
    Command, Communicator, CommunicatorExt, Context, Diagnostic, Diagnostics, Error, Globs, Machine,
    PrepareContext, Provisioner, Resource, Result, StepInputs, Value, async_trait,
};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::plays::{absolute, learn, masked};

/// The status of a shell that does not find a command.
const NOT_FOUND: i32 = 127;

/// Uploads playbooks and what they need into a folder of the machine, and runs the machine's `ansible-playbook` there.
///
/// ```
/// use packer_provisioners::AnsibleLocal;
/// let site = AnsibleLocal::playbook("site.yml");
/// ```
#[derive(Debug, Clone, Default, PartialEq, Deserialize, Serialize, JsonSchema)]
#[serde(default)]
#[non_exhaustive]
pub struct AnsibleLocal {
    /// The command that runs a playbook; `ANSIBLE_FORCE_COLOR=1 PYTHONUNBUFFERED=1 ansible-playbook` by default.
    pub command: String,
    /// Arguments for it, as a shell reads them.
    pub extra_arguments: Vec<String>,
    /// The playbook.
    pub playbook_file: String,
    /// Several playbooks instead, run one after another.
    pub playbook_files: Vec<String>,
    /// A folder whose content is uploaded beside the playbook.
    pub playbook_dir: String,
    /// Folders that are uploaded into `playbooks`.
    pub playbook_paths: Vec<String>,
    /// Folders of roles, which are uploaded into `roles`.
    pub role_paths: Vec<String>,
    /// Folders of collections, which are uploaded into `collections`.
    pub collection_paths: Vec<String>,
    /// A folder that is uploaded as `group_vars`.
    pub group_vars: String,
    /// A folder that is uploaded as `host_vars`.
    pub host_vars: String,
    /// An inventory; by default one is made that holds 127.0.0.1.
    pub inventory_file: String,
    /// The groups that 127.0.0.1 is in, in the inventory that is made.
    pub inventory_groups: Vec<String>,
    /// The folder in the machine; by default a new one in `/tmp/packer-provisioner-ansible-local`.
    pub staging_directory: String,
    /// Removes that folder in the end.
    pub clean_staging_directory: bool,
    /// A requirements file, installed in the machine before the playbooks run.
    pub galaxy_file: String,
    /// The command that installs it; `ansible-galaxy` by default.
    pub galaxy_command: String,
    /// Installs again what is there already.
    pub galaxy_force_install: bool,
    /// Where roles are installed; by default `galaxy_roles` in the staging folder.
    pub galaxy_roles_path: String,
    /// Where collections are installed; by default `galaxy_collections` in the staging folder.
    pub galaxy_collections_path: String,
}

impl AnsibleLocal {
    /// Runs a playbook.
    pub fn playbook(path: impl Into<String>) -> Self {
        Self { playbook_file: path.into(), ..Self::default() }
    }

    /// The folders that are uploaded, each with the name of its field.
    fn folders(&self) -> impl Iterator<Item = (&'static str, &str)> {
        let one = [
            ("playbook_dir", &self.playbook_dir),
            ("group_vars", &self.group_vars),
            ("host_vars", &self.host_vars),
        ];
        let several = [
            ("playbook_paths", &self.playbook_paths),
            ("role_paths", &self.role_paths),
            ("collection_paths", &self.collection_paths),
        ];
        let several =
            several.into_iter().flat_map(|(name, paths)| paths.iter().map(move |path| (name, path)));
        one.into_iter()
            .filter(|(_, path)| !path.is_empty())
            .chain(several)
            .map(|(name, path)| (name, path.as_str()))
    }

    /// The files that are uploaded.
    fn files(&self) -> impl Iterator<Item = (&'static str, &str)> {
        let one = [
            ("playbook_file", &self.playbook_file),
            ("inventory_file", &self.inventory_file),
            ("galaxy_file", &self.galaxy_file),
        ];
        let several = self.playbook_files.iter().map(|path| ("playbook_files", path));
        one.into_iter()
            .filter(|(_, path)| !path.is_empty())
            .chain(several)
            .map(|(name, path)| (name, path.as_str()))
    }
}

#[async_trait]
impl Provisioner for AnsibleLocal {
    fn prepare(&self, _: &PrepareContext) -> Diagnostics {
        let mut found = Diagnostics::new();
        let mut wrong = |what: String| found.push(Diagnostic::error(what));
        match (self.playbook_file.is_empty(), self.playbook_files.is_empty()) {
            (true, true) => wrong("Either playbook_file or playbook_files must be specified".into()),
            (false, false) => {
                wrong("Either playbook_file or playbook_files can be specified, not both".into());
            }
            _ => {}
        }
        let files = self.files().map(|(name, path)| (name, path, true));
        for (name, path, file) in files.chain(self.folders().map(|(name, path)| (name, path, false))) {
            let what = if file { "file" } else { "directory" };
            match std::fs::metadata(path) {
                Err(e) => wrong(format!("{name}: {path} is invalid: stat {path}: {}", os_text(&e))),
                Ok(there) if there.is_dir() == file => {
                    wrong(format!("{name}: {path} must point to a {what}"))
                }
                Ok(_) => {}
            }
        }
        found
    }

    async fn provision(&self, cx: &Context, machine: &dyn Machine) -> Result<()> {
        cx.say("Provisioning with Ansible...");
        let staging = match self.staging_directory.is_empty() {
            true => format!("/tmp/packer-provisioner-ansible-local/{}", uuid::Uuid::new_v4()),
            false => self.staging_directory.clone(),
        };
        let run = Run { local: self, cx, communicator: machine.communicator(), staging };
        let Some(remains) = run.write_down()? else { return run.all().await };
        let done = run.all().await;
        if done.as_ref().is_err_and(Error::is_cancelled) {
            // The engine cleans up: this context is over.
            return done;
        }
        cx.say("Removing staging directory...");
        let removed = match run.remove().await {
            Ok(()) => cx.released(&remains),
            // It stays in the ledger, and is tried again with the build's cleanup.
            Err(e) => Err(e),
        };
        // Why the playbook failed says more than that its folder is still there.
        done.and(removed)
    }

    async fn clean(&self, cx: &Context, machine: &dyn Machine, resource: &Resource) -> Result<()> {
        let command = Command::new(format!("rm -rf '{}'", posix_escape(&resource.name)));
        match machine.communicator().exec(cx, command).await? {
            status if status.success() => Ok(()),
            status => Err(Error::guest(format!("rm ended with status {}", status.code()))),
        }
    }

    fn runs_commands(&self) -> bool {
        true
    }

    fn inputs(&self) -> StepInputs {
        match self.galaxy_file.is_empty() {
            true => {
                StepInputs::Files(self.files().chain(self.folders()).map(|(_, path)| path.into()).collect())
            }
            // What is installed comes from elsewhere.
            false => StepInputs::Volatile,
        }
    }

    fn config(&self) -> Option<Value> {
        config::to_value(self)
    }
}

/// One go of the provisioner on one machine.
struct Run<'a> {
    local: &'a AnsibleLocal,
    cx: &'a Context,
    communicator: std::sync::Arc<dyn Communicator>,
    staging: String,
}

impl Run<'_> {
    /// Writes into the ledger which folder the machine is about to get; `None` where it is to stay there.
    fn write_down(&self) -> Result<Option<Resource>> {
        if !self.local.clean_staging_directory {
            return Ok(None);
        }
        let host = self.cx.facts().get("Host").and_then(Value::as_str).unwrap_or_default();
        let host = self.cx.secrets().scrub(host);
        let resource = Resource::remote_file(&self.staging).with_details(host.as_ref());
        self.cx.record(resource.clone())?;
        Ok(Some(resource))
    }

    async fn all(&self) -> Result<()> {
        let local = self.local;
        if local.playbook_dir.is_empty() {
            self.cx.say("Creating Ansible staging directory...");
            self.make_folder(&self.staging)
                .await
                .map_err(|e| e.context("Error creating staging directory"))?;
        } else {
            self.cx.say("Uploading Playbook directory to Ansible staging directory...");
            let uploaded = self.upload_folder(&local.playbook_dir, &self.staging).await;
            uploaded.map_err(|e| e.context("Error uploading playbook_dir directory"))?;
        }
        let playbooks = self.upload_playbooks().await?;
        if !local.galaxy_file.is_empty() {
            self.cx.say("Uploading galaxy file...");
            let uploaded = self.upload_beside(Path::new(&local.galaxy_file)).await;
            uploaded.map_err(|e| e.context("Error uploading galaxy file"))?;
        }
        self.cx.say("Uploading inventory file...");
        let inventory =
            self.upload_inventory().await.map_err(|e| e.context("Error uploading inventory file"))?;
        for (name, path) in [("group_vars", &local.group_vars), ("host_vars", &local.host_vars)] {
            if !path.is_empty() {
                self.cx.say(format!("Uploading {name} directory..."));
                let uploaded = self.upload_folder(path, &self.staged(name)).await;
                uploaded.map_err(|e| e.context(format!("Error uploading {name} directory")))?;
            }
        }
        self.upload_folders("Uploading role directories...", &local.role_paths, "roles").await?;
        self.upload_folders("Uploading collection directories...", &local.collection_paths, "collections")
            .await?;
        if !local.playbook_paths.is_empty() {
            self.cx.say("Uploading additional Playbooks...");
            let folder = self.staged("playbooks");
            self.make_folder(&folder).await.map_err(|e| e.context("Error creating playbooks directory"))?;
            self.upload_each(&local.playbook_paths, &folder).await?;
        }
        let run = async {
            let collections = self.galaxy().await?;
            for playbook in &playbooks {
                self.play(playbook, &inventory, collections).await?;
            }
            Ok::<_, Error>(())
        };
        run.await.map_err(|e| e.context("Error executing Ansible"))
    }

    /// A path in the staging folder.
    fn staged(&self, name: &str) -> String {
        format!("{}/{name}", self.staging.trim_end_matches('/'))
    }

    /// Uploads the playbooks; returns where they are.
    async fn upload_playbooks(&self) -> Result<Vec<String>> {
        let local = self.local;
        if !local.playbook_file.is_empty() {
            self.cx.say("Uploading main Playbook file...");
            let uploaded = self.upload_beside(Path::new(&local.playbook_file)).await;
            return Ok(vec![uploaded.map_err(|e| e.context("Error uploading main playbook"))?]);
        }
        let folder = match local.playbook_dir.is_empty() {
            true => None,
            false => Some(absolute(&local.playbook_dir)?),
        };
        let mut playbooks = Vec::new();
        for playbook in &local.playbook_files {
            let path = absolute(playbook)?;
            if let Some(inside) = folder.as_ref().and_then(|folder| path.strip_prefix(folder).ok()) {
                // It is there already, with its folder.
                playbooks.push(self.staged(&inside.to_string_lossy()));
                continue;
            }
            self.cx.say(format!("Uploading playbook file: {}", path.display()));
            // Playbooks of one name may come from several folders.
            let target = self.staged(slashes(&path).trim_start_matches('/'));
            let parent = target.rsplit_once('/').map_or("/", |(parent, _)| parent);
            self.make_folder(parent).await?;
            let uploaded = self.communicator.upload_file(self.cx, &path, &target).await;
            uploaded.map_err(|e| e.context(format!("Error uploading playbook {}", path.display())))?;
            playbooks.push(target);
        }
        Ok(playbooks)
    }

    async fn upload_inventory(&self) -> Result<String> {
        let local = self.local;
        if !local.inventory_file.is_empty() {
            return self.upload_beside(Path::new(&local.inventory_file)).await;
        }
        let mut text = String::new();
        for group in &local.inventory_groups {
            text.push_str(&format!("[{group}]\n127.0.0.1\n"));
        }
        if text.is_empty() {
            text.push_str("127.0.0.1\n");
        }
        let number = uuid::Uuid::new_v4().as_u64_pair().0;
        let target = self.staged(&format!("packer-provisioner-ansible-local{number}"));
        self.communicator.upload_bytes(self.cx, text.as_bytes(), &target).await?;
        Ok(target)
    }

    /// Uploads a file into the staging folder; returns where it is.
    async fn upload_beside(&self, path: &Path) -> Result<String> {
        let name = path.file_name().unwrap_or_default().to_string_lossy();
        let target = self.staged(&name);
        self.communicator.upload_file(self.cx, path, &target).await?;
        Ok(target)
    }

    async fn upload_folders(&self, title: &str, paths: &[String], into: &str) -> Result<()> {
        if paths.is_empty() {
            return Ok(());
        }
        self.cx.say(title);
        self.upload_each(paths, &self.staged(into)).await
    }

    async fn upload_each(&self, paths: &[String], into: &str) -> Result<()> {
        for path in paths {
            let whole = absolute(path)?;
            let name = whole.file_name().unwrap_or_default().to_string_lossy();
            let uploaded = self.upload_folder(path, &format!("{into}/{name}")).await;
            uploaded.map_err(|e| e.context(format!("Error uploading {path}")))?;
        }
        Ok(())
    }

    /// Uploads the content of a folder into a new one.
    async fn upload_folder(&self, path: &str, target: &str) -> Result<()> {
        self.make_folder(target).await?;
        let content = PathBuf::from(format!("{}/", path.trim_end_matches('/')));
        self.communicator.upload_dir(self.cx, &content, target, &Globs::none()).await
    }

    async fn make_folder(&self, path: &str) -> Result<()> {
        self.cx.say(format!("Creating directory: {path}"));
        self.succeed(&format!("mkdir -p '{}'", posix_escape(path))).await
    }

    async fn remove(&self) -> Result<()> {
        self.cx.say(format!("Removing directory: {}", self.staging));
        let removed = self.succeed(&format!("rm -rf '{}'", posix_escape(&self.staging))).await;
        removed.map_err(|e| e.context("Error removing staging directory"))
    }

    async fn succeed(&self, command: &str) -> Result<()> {
        match self.communicator.run(self.cx, command).await? {
            status if status.success() => Ok(()),
            status => Err(Error::guest(format!(
                "Non-zero exit status {}. See output above for more information.",
                status.code()
            ))),
        }
    }

    /// Installs what the playbooks need; returns whether collections are among it.
    async fn galaxy(&self) -> Result<bool> {
        let local = self.local;
        if local.galaxy_file.is_empty() {
            return Ok(false);
        }
        let path = Path::new(&local.galaxy_file);
        let text = tokio::fs::read(path).await.map_err(|e| Error::io("read", path, e))?;
        let text = String::from_utf8_lossy(&text);
        let has = |key: &str| text.lines().any(|line| line.starts_with(key));
        let (roles, collections) = (has("roles:"), has("collections:"));
        let name = path.file_name().unwrap_or_default().to_string_lossy();
        let file = self.staged(&name);
        if roles || !collections {
            self.install(&format!("install -r {file} -p {}", self.galaxy_roles())).await?;
        }
        if collections {
            self.install(&format!("collection install -r {file} -p {}", self.galaxy_collections())).await?;
        }
        Ok(collections)
    }

    async fn install(&self, arguments: &str) -> Result<()> {
        let local = self.local;
        let program = if local.galaxy_command.is_empty() { "ansible-galaxy" } else { &local.galaxy_command };
        let force = if local.galaxy_force_install { " -f" } else { "" };
        let command = format!("cd {} && {program} {arguments}{force}", self.staging);
        self.cx.say(format!("Executing Ansible Galaxy: {command}"));
        let done = self.execute(&command, program).await;
        done.map_err(|e| e.context("Error executing Ansible Galaxy"))
    }

    fn galaxy_roles(&self) -> String {
        match self.local.galaxy_roles_path.is_empty() {
            true => self.staged("galaxy_roles"),
            false => self.local.galaxy_roles_path.clone(),
        }
    }

    fn galaxy_collections(&self) -> String {
        match self.local.galaxy_collections_path.is_empty() {
            true => self.staged("galaxy_collections"),
            false => self.local.galaxy_collections_path.clone(),
        }
    }

    async fn play(&self, playbook: &str, inventory: &str, installed_collections: bool) -> Result<()> {
        let (local, cx, staging) = (self.local, self.cx, &self.staging);
        let mut collections = Vec::new();
        if !local.collection_paths.is_empty() {
            collections.push(self.staged("collections"));
        }
        if installed_collections {
            collections.push(self.galaxy_collections());
        }
        let variables = match collections.is_empty() {
            true => String::new(),
            false => format!(" ANSIBLE_COLLECTIONS_PATH=$ANSIBLE_COLLECTIONS_PATH:{}", collections.join(":")),
        };
        let program = match local.command.is_empty() {
            true => "ANSIBLE_FORCE_COLOR=1 PYTHONUNBUFFERED=1 ansible-playbook",
            false => &local.command,
        };
        let extra: Result<Vec<String>> =
            local.extra_arguments.iter().map(|text| render(cx, text, &[])).collect();
        let http = cx.facts().text("PackerHTTPAddr").filter(|address| !address.is_empty());
        let http = http.unwrap_or_else(|| "ERR_HTTP_ADDR_NOT_IMPLEMENTED_BY_BUILDER".into());
        let extra = extra?;
        extra.iter().for_each(|argument| learn(cx, argument));
        let shown: Vec<String> = extra.iter().map(|argument| masked(argument)).collect();
        let command = |extra: &[String]| {
            format!(
                "cd {staging} && {variables} {program} {playbook} --extra-vars \"packer_build_name={} \
                 packer_builder_type={} packer_http_addr={http} -o IdentitiesOnly=yes\" {} -c local -i {inventory}",
                cx.build().name,
                cx.build().builder_type,
                extra.join(" "),
            )
        };
        cx.say(format!("Executing Ansible: {}", command(&shown)));
        self.execute(&command(&extra), program).await
    }

    async fn execute(&self, command: &str, program: &str) -> Result<()> {
        match self.communicator.run(self.cx, command).await? {
            status if status.success() => Ok(()),
            status if status.code() == NOT_FOUND => Err(Error::guest(format!(
                "{program} could not be found. Verify that it is available on the\nPATH after connecting to the machine."
            ))),
            status => Err(Error::guest(format!("Non-zero exit status: {}", status.code()))),
        }
    }
}

/// An absolute path of this computer as a machine's.
fn slashes(path: &Path) -> String {
    let parts = path.components().filter_map(|part| match part {
        Component::Normal(name) => Some(name.to_string_lossy()),
        _ => None,
    });
    parts.fold(String::new(), |whole, part| whole + "/" + &part)
}

#[cfg(all(test, unix))]
mod tests {
    use std::sync::Arc;

    use packer_core::testing::{Bench, EnteredMachine, LocalMachine};

    use super::*;

    #[tokio::test]
    async fn a_slash_behind_the_staging_folder_is_not_doubled() {
        let bench = Bench::new();
        let play = bench.folder().join("play.yml");
        std::fs::write(&play, "[]").unwrap();
        std::fs::create_dir(bench.folder().join("vars")).unwrap();
        let folder = bench.folder().display();
        let local = AnsibleLocal {
            command: "echo".into(),
            group_vars: format!("{folder}/vars"),
            staging_directory: format!("{folder}/stage/"),
            ..AnsibleLocal::playbook(play.display().to_string())
        };
        let machine = EnteredMachine::new(Arc::new(LocalMachine::new(bench.folder())));
        local.provision(bench.context(), &machine).await.unwrap();
        let lines = bench.recorder().lines();
        let last = lines.last().unwrap();
        assert!(last.starts_with(&format!("{folder}/stage/play.yml --extra-vars ")), "{last}");
        assert!(last.contains(&format!(" -i {folder}/stage/packer-provisioner-ansible-local")), "{last}");
        assert!(lines.contains(&format!("Creating directory: {folder}/stage/group_vars")), "{lines:?}");
    }
}
