//! The builder `docker`: a container becomes an image, or the tar of a file system.

use std::borrow::Cow;
use std::collections::BTreeMap;
use std::path::Path;

use packer_core::communicator::CommunicatorConfig;
use packer_core::config::{self, GoTemplate};
use packer_core::docker::{Client, InFlight, Login};
use packer_core::{
    Artifact, BootTest, Builder, Context, Diagnostic, Diagnostics, Machine, PrepareContext, Prepared,
    Resource, Result, Value, async_trait,
};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

mod boot_test;
mod build;
mod dockerfile;
mod ignore;
mod launch;
mod machine;
mod run_flags;

/// Starts a container, and makes an image or a tar of it.
///
/// Speaks to the engine's API (Docker's or Podman's) that `DOCKER_HOST` or Docker's configuration names; no
/// `docker` command is needed.
///
/// ```
/// use packer_builders::Docker;
/// let image = Docker::image("debian:12").change(r#"CMD ["nginx"]"#).commit();
/// let tar = Docker::image("debian:12").export("out/rootfs.tar");
/// ```
#[derive(Debug, Clone, Default, PartialEq, Deserialize, Serialize, JsonSchema)]
#[serde(default)]
#[non_exhaustive]
pub struct Docker {
    /// The image to start from.
    pub image: String,
    /// A Dockerfile to build the image from that is started from.
    pub build: Option<DockerBuild>,
    /// Whether the container becomes an image.
    pub commit: bool,
    /// Whether nothing is kept of the container.
    pub discard: bool,
    /// The path of the tar of the container's file system; its folders are made.
    pub export_path: String,
    /// The author of the image.
    pub author: String,
    /// The message of the commit.
    pub message: String,
    /// Instructions of a Dockerfile that change the image's configuration: `CMD`, `ENTRYPOINT`, `ENV`, `EXPOSE`, `LABEL`,
    /// `ONBUILD`, `USER`, `VOLUME`, `WORKDIR`. `CMD` and `ENTRYPOINT` are those of the image that was started from unless
    /// they are given here.
    pub changes: Vec<String>,
    /// Where the container sees a folder that it shares with this computer. Default `/packer-files`, with Windows
    /// containers `c:/packer-files`.
    pub container_dir: String,
    /// Devices for the container: `/dev/HERE[:/dev/THERE[:rwm]]`.
    pub device: Vec<String>,
    /// Capabilities to add.
    pub cap_add: Vec<String>,
    /// Capabilities to take away.
    pub cap_drop: Vec<String>,
    /// Paths where memory is mounted: `/PATH[:OPTIONS]`.
    pub tmpfs: Vec<String>,
    /// Folders of this computer (or named volumes) and where the container sees them. `~/` is the home folder.
    pub volumes: BTreeMap<String, String>,
    /// Whether the container may do everything.
    pub privileged: bool,
    /// Whether commands get a terminal.
    pub pty: bool,
    /// The runtime that runs the container.
    pub runtime: String,
    /// The platform of the image: `linux/arm64`.
    pub platform: String,
    /// The user that commands run as. Default the user of the image.
    pub exec_user: String,
    /// The program that starts the container, if that is not to be done over the API.
    pub docker_path: String,
    /// Arguments of `docker run`; `{{.Image}}` is the image. Default `-d -i -t --entrypoint=/bin/sh -- {{.Image}}`. An
    /// argument that has no counterpart in the API makes that one step go through the program `docker`.
    pub run_command: Vec<GoTemplate>,
    /// Whether to pull the image first. Default true.
    pub pull: Option<bool>,
    /// Whether uploaded files belong to the user that commands run as. Default true.
    pub fix_upload_owner: Option<bool>,
    /// Whether it is a Windows container.
    pub windows_container: bool,
    /// How to log in to the registry.
    #[serde(flatten)]
    pub login: Login,
    /// How the container is entered: `docker`, the default, `ssh` or `none`.
    #[serde(flatten)]
    pub communicator: CommunicatorConfig,
    #[serde(skip)]
    in_flight: InFlight,
}

/// How the image to start from is built: by the engine's first builder, and by BuildKit (cargo feature `docker-buildkit`)
/// where the Dockerfile holds what only that one knows, such as `RUN --mount`, `COPY --link`, here-documents and
/// `ARG TARGETARCH`.
#[derive(Debug, Clone, Default, PartialEq, Deserialize, Serialize, JsonSchema)]
#[serde(default)]
#[non_exhaustive]
pub struct DockerBuild {
    /// The path of the Dockerfile.
    pub path: String,
    /// The folder that is sent to the engine. Default the working folder.
    pub build_dir: String,
    /// Values of the Dockerfile's `ARG`s.
    pub arguments: BTreeMap<String, String>,
    /// Whether to pull the images that the Dockerfile starts from. Default true.
    pub pull: Option<bool>,
    /// Whether to compress what is sent.
    pub compress: bool,
}

impl DockerBuild {
    /// Builds from a Dockerfile.
    pub fn from(path: impl Into<String>) -> Self {
        Self { path: path.into(), ..Self::default() }
    }
}

impl Docker {
    /// Starts from an image. What becomes of the container is said with [`commit`](Self::commit),
    /// [`export`](Self::export) or [`discard`](Self::discard).
    pub fn image(image: impl Into<String>) -> Self {
        Self { image: image.into(), ..Self::default() }
    }

    /// Starts from the image that a Dockerfile makes.
    pub fn build(build: DockerBuild) -> Self {
        Self { build: Some(build), ..Self::default() }
    }

    /// Makes an image.
    #[must_use]
    pub fn commit(mut self) -> Self {
        self.commit = true;
        self
    }

    /// Makes a tar of the file system.
    #[must_use]
    pub fn export(mut self, path: impl Into<String>) -> Self {
        self.export_path = path.into();
        self
    }

    /// Keeps nothing.
    #[must_use]
    pub fn discard(mut self) -> Self {
        self.discard = true;
        self
    }

    /// Uses the image as the engine has it; it is pulled only where it is missing.
    #[must_use]
    pub fn no_pull(mut self) -> Self {
        self.pull = Some(false);
        self
    }

    /// Adds an instruction that changes the image.
    #[must_use]
    pub fn change(mut self, instruction: impl Into<String>) -> Self {
        self.changes.push(instruction.into());
        self
    }

    /// Mounts a folder of this computer, or a named volume.
    #[must_use]
    pub fn volume(mut self, here: impl Into<String>, there: impl Into<String>) -> Self {
        self.volumes.insert(here.into(), there.into());
        self
    }

    /// Says with which arguments of `docker run` the container is started.
    #[must_use]
    pub fn run_command<S: Into<String>>(mut self, arguments: impl IntoIterator<Item = S>) -> Self {
        self.run_command = arguments.into_iter().map(GoTemplate::new).collect();
        self
    }

    /// Says how to log in to the registry.
    #[must_use]
    pub fn login(mut self, login: Login) -> Self {
        self.login = login;
        self
    }

    /// The Dockerfile, where there is one: an empty block is as none.
    fn dockerfile(&self) -> Option<&DockerBuild> {
        self.build.as_ref().filter(|build| **build != DockerBuild::default())
    }

    fn communicator_kind(&self) -> &str {
        let default = if self.windows_container { "dockerWindowsContainer" } else { "docker" };
        self.communicator.kind_or(default)
    }

    fn pulls(&self) -> bool {
        self.pull.unwrap_or(true)
    }

    fn container_dir(&self) -> &str {
        match self.container_dir.as_str() {
            "" if self.windows_container => "c:/packer-files",
            "" => "/packer-files",
            own => own,
        }
    }
}

#[async_trait]
impl Builder for Docker {
    async fn prepare(&self, cx: &PrepareContext) -> Result<Prepared, Diagnostics> {
        let (mut found, mut prepared) = (Diagnostics::new(), Prepared::new());
        let mut refuse = |text: &str| found.push(Diagnostic::error(text));
        match (self.image.is_empty(), self.dockerfile()) {
            (true, None) => refuse(
                "missing 'image' attribute or 'build' section, either needs to be specified for a build to run.",
            ),
            (false, Some(_)) => refuse("`image` cannot be specified with a build config"),
            (_, Some(dockerfile)) => {
                dockerfile.check().into_iter().for_each(|text| refuse(&text));
                if self.pull.is_some() {
                    prepared.warnings.push(Diagnostic::warning(
                        "when running a bootstrap build, the `pull` option is ignored and is replaced by `build.pull` \
                         (true by default)",
                    ));
                }
            }
            _ => {}
        }
        match [self.commit, self.discard, !self.export_path.is_empty()].iter().filter(|given| **given).count()
        {
            0 => refuse(
                "No instructions given for handling the artifact; expected commit, discard, or export_path",
            ),
            1 => {}
            _ => refuse("Cannot specify more than one of commit, discard, and export_path"),
        }
        if Path::new(&self.export_path).is_dir() {
            refuse("export_path must be a file, not a directory");
        }
        found.append(self.login.check());
        let kind = self.communicator_kind();
        found.append(self.communicator.prepare_or(kind, cx));
        if matches!(kind, "ssh" | "winrm") && !found.has_errors() {
            found.extend(self.communicator.unsupported());
        }
        if self.discard {
            let reason = "nothing is kept of the container (discard), so that there is nothing to test";
            prepared.no_boot_test = Some(reason.to_owned());
        }
        prepared.warnings.append(Prepared::of(found)?.warnings);
        Ok(prepared)
    }

    async fn launch(&self, cx: &Context) -> Result<Box<dyn Machine>> {
        launch::from_source(self, cx).await
    }

    async fn resume(&self, cx: &Context, checkpoint: &Resource) -> Result<Box<dyn Machine>> {
        launch::from_checkpoint(self, cx, checkpoint).await
    }

    async fn capture_checkpoint(&self, cx: &Context, checkpoint: &Resource) -> Result<Option<Artifact>> {
        launch::capture_checkpoint(self, cx, checkpoint).await
    }

    fn boot_test(&self) -> Option<&dyn BootTest> {
        Some(self)
    }

    async fn checkpoint_exists(&self, cx: &Context, checkpoint: &Resource) -> Result<bool> {
        Ok(Client::connect(cx.host()).await?.image(&checkpoint.name).await?.is_some())
    }

    async fn release(&self, cx: &Context, resource: &Resource) -> Result<()> {
        self.in_flight.finished(resource.id).await;
        machine::release(cx, resource).await
    }

    async fn source_digest(&self, cx: &Context) -> Result<Option<String>> {
        if self.dockerfile().is_some() || self.image.is_empty() {
            return Ok(None); // what a Dockerfile makes shows only when it is built
        }
        let client = Client::connect(cx.host()).await?;
        if self.pulls() {
            let login = self.login.credentials(cx, &self.image).await?;
            // Whether the image can be had at all, the launch will say.
            return Ok(client.registry_digest(cx, &self.image, login.as_ref()).await.unwrap_or_default());
        }
        Ok(client.image(&self.image).await?.and_then(|image| image.id))
    }

    fn capture_arguments(&self) -> &'static [&'static str] {
        &["author", "changes", "commit", "discard", "export_path", "message"]
    }

    fn variables(&self) -> Vec<Cow<'static, str>> {
        vec!["ImageSha256".into(), "SourceImageDigest".into()]
    }

    fn config(&self) -> Option<Value> {
        config::to_value(self)
    }
}
