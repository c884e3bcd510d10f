//! The builder `oci`: container images without an engine, without a daemon, and without being root.
//!
//! ```text
//! base ─unpack→ root filesystem ─provisioners→ what changed ─pack→ layers ─→ outputs
//! ```
//!
//! `name` reads the names of images, `base` fetches and unpacks what a build starts from, `rootfs` is the tree that is
//! changed, `communicator` and `runtime` the ways into it, `layer` turns what changed into tars, `finish` makes the image of
//! them, and `layout`, `archive` and `registry` are where images are read from and written to.

mod archive;
mod base;
mod boot_test;
mod changes;
mod communicator;
mod config;
mod documents;
mod finish;
mod image;
mod layer;
mod layout;
mod machine;
mod name;
mod reference;
mod registry;
mod resume;
mod rootfs;
mod runtime;

use std::borrow::Cow;
use std::collections::BTreeMap;
use std::sync::Arc;

use packer_core::config::OneOrMany;
use packer_core::{
    Artifact, BootTest, Builder, Context, Diagnostic, Diagnostics, Error, Machine, PrepareContext, Prepared,
    Resource, Result, Value, async_trait,
};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

pub use layer::Compression;

use self::base::Request;
use self::config::ImageConfig;
use self::image::Platform;
use self::layer::Budget;
use self::name::{BaseName, ImageName};

/// Makes a container image in the format of the Open Container Initiative.
///
/// The base is unpacked into a folder; files are uploaded straight into it, and commands run in it through `crun`, `runc`
/// or `bwrap`, whichever is on the lent `PATH`, by root or by anybody who may have a user namespace. What changed becomes
/// the layers of the image. A build that only uploads files needs none of these programs.
///
/// An ordinary user is root inside, and has only that one user there: files of the base keep their owners, but commands
/// cannot give files to others.
///
/// ```
/// use packer_builders::Oci;
/// let hello = Oci::scratch(["oci:out:hello"]).entrypoint(["/hello"]).label("vendor", "example");
/// let nginx = Oci::from("docker://debian:12").output("docker://registry.example.com/nginx:1").expose("80/tcp");
/// ```
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(default)]
#[non_exhaustive]
pub struct Oci {
    /// What to start from: `scratch` (the default), `rootfs:PATH` (a folder or a tar), `oci:DIR:TAG`,
    /// `oci-archive:FILE:TAG`, `docker-archive:FILE:NAME` or `docker://NAME`.
    pub base: String,
    /// Where the image goes, one or several: `oci:DIR:TAG`, `oci-archive:FILE:TAG`, `docker-archive:FILE:NAME` or
    /// `docker://NAME`.
    #[schemars(with = "Vec<String>")]
    pub output: OneOrMany<String>,
    /// `OS/ARCHITECTURE[/VARIANT]`, where the base is for several or for none; this computer's unless given.
    pub platform: String,
    /// The program that containers run, with its first arguments. The base's `cmd` goes with the base's entry point.
    pub entrypoint: Vec<String>,
    /// Arguments of the entry point, or the program where there is none.
    pub cmd: Vec<String>,
    /// Variables; commands of provisioners see them too.
    pub env: BTreeMap<String, String>,
    /// The folder that containers, and commands of provisioners, start in.
    pub workdir: String,
    /// Who containers run as: `USER[:GROUP]`.
    pub user: String,
    /// Labels.
    pub labels: BTreeMap<String, String>,
    /// What containers listen on: `80`, `53/udp`, `8000-8010/tcp`.
    pub ports: Vec<String>,
    /// Folders for data that outlives a container.
    pub volumes: Vec<String>,
    /// The signal that ends a container.
    pub stop_signal: String,
    /// Who made the image.
    pub author: String,
    /// Instructions of a Dockerfile (`CMD`, `ENTRYPOINT`, `ENV`, `EXPOSE`, `LABEL`, `ONBUILD`, `STOPSIGNAL`, `USER`,
    /// `VOLUME`, `WORKDIR`), applied behind the fields above.
    pub changes: Vec<String>,
    /// How layers are packed: `gzip` (the default), `zstd` or `none`.
    pub compression: Compression,
    /// `one` layer with all that the build changes (the default), or one `per_provisioner`.
    pub layers: Layers,
    /// Whose uploaded files are, `UID:GID`. Without it as they are on this computer, except that an ordinary user's are root's.
    pub upload_owner: String,
    /// The time that the image says, in seconds since 1970, and that no file in its layers is newer than: the same
    /// inputs give the same bytes then. Without it `SOURCE_DATE_EPOCH`, as the host lends it.
    pub source_date_epoch: Option<i64>,
    /// How many bytes the base may unpack to at most. Without it 64 GiB, and no more than 200 times its packed size.
    pub base_limit: Option<u64>,
    /// Whether registries have to show a certificate that is trusted; true unless given. Those on this computer need none.
    pub tls_verify: Option<bool>,
    /// The digest of the image in a layout that a test starts from.
    #[serde(skip)]
    image: Option<String>,
}

/// How what changed is divided into layers.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
#[non_exhaustive]
pub enum Layers {
    /// One layer.
    #[default]
    One,
    /// One for each provisioner.
    PerProvisioner,
}

impl Oci {
    /// An image that starts from nothing.
    pub fn scratch<S: Into<String>>(output: impl IntoIterator<Item = S>) -> Self {
        Self { output: output.into_iter().map(Into::into).collect(), ..Self::default() }
    }

    /// An image that starts from another: `docker://debian:12`, `rootfs:tree.tar`.
    pub fn from(base: impl Into<String>) -> Self {
        Self { base: base.into(), ..Self::default() }
    }

    /// Adds a place for the image to go.
    #[must_use]
    pub fn output(mut self, output: impl Into<String>) -> Self {
        self.output.0.push(output.into());
        self
    }

    /// Sets the program that containers run.
    #[must_use]
    pub fn entrypoint<S: Into<String>>(mut self, words: impl IntoIterator<Item = S>) -> Self {
        self.entrypoint = words.into_iter().map(Into::into).collect();
        self
    }

    /// Sets the arguments of the entry point.
    #[must_use]
    pub fn cmd<S: Into<String>>(mut self, words: impl IntoIterator<Item = S>) -> Self {
        self.cmd = words.into_iter().map(Into::into).collect();
        self
    }

    /// Sets a variable.
    #[must_use]
    pub fn env(mut self, name: impl Into<String>, value: impl Into<String>) -> Self {
        self.env.insert(name.into(), value.into());
        self
    }

    /// Sets a label.
    #[must_use]
    pub fn label(mut self, name: impl Into<String>, value: impl Into<String>) -> Self {
        self.labels.insert(name.into(), value.into());
        self
    }

    /// Says what containers listen on.
    #[must_use]
    pub fn expose(mut self, port: impl Into<String>) -> Self {
        self.ports.push(port.into());
        self
    }

    /// Adds an instruction of a Dockerfile.
    #[must_use]
    pub fn change(mut self, instruction: impl Into<String>) -> Self {
        self.changes.push(instruction.into());
        self
    }

    /// Makes one layer of what each provisioner changes.
    #[must_use]
    pub fn layer_per_provisioner(mut self) -> Self {
        self.layers = Layers::PerProvisioner;
        self
    }

    /// Says how layers are packed.
    #[must_use]
    pub fn compression(mut self, compression: Compression) -> Self {
        self.compression = compression;
        self
    }

    /// Sets the time of the image, in seconds since 1970.
    #[must_use]
    pub fn source_date_epoch(mut self, seconds: i64) -> Self {
        self.source_date_epoch = Some(seconds);
        self
    }

    fn tls_verify(&self) -> bool {
        self.tls_verify.unwrap_or(true)
    }

    fn request(&self) -> Result<Request> {
        Ok(Request {
            name: BaseName::parse(&self.base)?,
            platform: Platform::parse(&self.platform)?,
            limit: self.base_limit,
            tls_verify: self.tls_verify(),
            image: self.image.clone(),
        })
    }

    fn outputs(&self) -> Result<Vec<ImageName>> {
        self.output.iter().map(|name| ImageName::parse(name)).collect()
    }

    /// The time that the image is to have.
    fn epoch(&self, variable: Option<&str>) -> Result<Option<i64>> {
        let given = match (self.source_date_epoch, variable.filter(|text| !text.is_empty())) {
            (Some(seconds), _) => Some(seconds),
            (None, Some(text)) => {
                let wrong = |_| Error::user(format!("SOURCE_DATE_EPOCH: {text:?} is no number of seconds"));
                Some(text.trim().parse().map_err(wrong)?)
            }
            (None, None) => None,
        };
        match given {
            Some(seconds) if !(0..=253_402_300_799).contains(&seconds) => {
                Err(Error::user(format!("source_date_epoch: {seconds} is not between 1970 and 9999")))
            }
            given => Ok(given),
        }
    }

    fn owner(&self) -> Result<Option<(u32, u32)>> {
        if self.upload_owner.is_empty() {
            return Ok(None);
        }
        let pair = self.upload_owner.split_once(':');
        let pair = pair.and_then(|(uid, gid)| Some((uid.parse().ok()?, gid.parse().ok()?)));
        let wrong = || Error::user(format!("upload_owner: {:?} is not UID:GID", self.upload_owner));
        pair.map(Some).ok_or_else(wrong)
    }

    /// Says in an image's configuration what the fields say.
    fn configure(&self, config: &mut ImageConfig) -> Result<()> {
        if !self.platform.is_empty() {
            let Platform { os, architecture, variant } = Platform::parse(&self.platform)?;
            (config.os, config.architecture, config.variant) = (os, architecture, variant);
        }
        if !self.author.is_empty() {
            config.author.clone_from(&self.author);
        }
        let run = &mut config.config;
        for (name, value) in &self.env {
            run.set_env(name, value);
        }
        if !self.entrypoint.is_empty() {
            run.entrypoint = Some(self.entrypoint.clone());
            run.cmd = None;
        }
        if !self.cmd.is_empty() {
            run.cmd = Some(self.cmd.clone());
        }
        if !self.workdir.is_empty() {
            run.working_dir = changes::below(&run.working_dir, &self.workdir);
        }
        for (field, own) in [(&mut run.user, &self.user), (&mut run.stop_signal, &self.stop_signal)] {
            if !own.is_empty() {
                field.clone_from(own);
            }
        }
        run.labels.extend(self.labels.clone());
        run.volumes.extend(self.volumes.iter().map(|volume| (volume.clone(), serde_json::Map::new())));
        for port in &self.ports {
            let ports =
                changes::ports(port).ok_or_else(|| Error::user(format!("ports: {port:?} is no port")))?;
            ports.iter().for_each(|port| run.expose(port));
        }
        let mut applied = changes::Applied { cmd: !self.cmd.is_empty() };
        self.changes.iter().try_for_each(|change| changes::apply(change, run, &mut applied))
    }

    fn check(&self, cx: &PrepareContext) -> Diagnostics {
        let mut found = Diagnostics::new();
        let mut say = |about: &str, result: Result<()>| {
            if let Err(error) = result {
                let finding = Diagnostic::error(error.message());
                found.push(if about.is_empty() { finding } else { finding.about(about) });
            }
        };
        say("base", BaseName::parse(&self.base).map(drop));
        let platform = Platform::parse(&self.platform).map(drop);
        let is_platform = platform.is_ok();
        say("platform", platform);
        say("source_date_epoch", self.epoch(cx.env("SOURCE_DATE_EPOCH")).map(drop));
        say("upload_owner", self.owner().map(drop));
        if is_platform {
            say("", self.configure(&mut ImageConfig::default()));
        }
        if self.output.is_empty() {
            say("", Err(Error::user("output: at least one place for the image to go is needed")));
        }
        if let Some(name) = self.env.keys().find(|name| name.is_empty() || name.contains(['=', '\0'])) {
            say("env", Err(Error::user(format!("env: {name:?} is no name of a variable"))));
        }
        for (i, name) in self.output.iter().enumerate() {
            let about = format!("output[{i}]");
            match ImageName::parse(name) {
                Ok(output) => {
                    if let ImageName::Registry(reference) = &output
                        && reference.digest().is_some()
                    {
                        let text = format!("output: {output} names a digest; a push needs a tag");
                        say(&about, Err(Error::user(text)));
                    }
                }
                Err(error) => say(&about, Err(error)),
            }
        }
        found
    }
}

#[async_trait]
impl Builder for Oci {
    async fn prepare(&self, cx: &PrepareContext) -> Result<Prepared, Diagnostics> {
        let mut prepared = Prepared::new();
        if runtime::find(cx.env("PATH")).is_empty() {
            prepared.no_commands = Some(runtime::NONE.to_owned());
        }
        let is_pushed = |name: &&String| matches!(ImageName::parse(name), Ok(ImageName::Registry(_)));
        prepared.no_boot_test = self.output.iter().find(is_pushed).map(|output| {
            format!(
                "the image would be pushed to {output} before it is tested: let it go to a place on this computer \
                 (oci:, oci-archive: or docker-archive:), and from there to the registry when it has passed"
            )
        });
        self.check(cx).into_result(prepared)
    }

    async fn launch(&self, cx: &Context) -> Result<Box<dyn Machine>> {
        Ok(Box::new(self.start(cx, None).await?))
    }

    async fn resume(&self, cx: &Context, checkpoint: &Resource) -> Result<Box<dyn Machine>> {
        Ok(Box::new(self.start(cx, Some(checkpoint)).await?))
    }

    async fn capture_checkpoint(&self, cx: &Context, checkpoint: &Resource) -> Result<Option<Artifact>> {
        self.capture_layers(cx, checkpoint).await
    }

    fn boot_test(&self) -> Option<&dyn BootTest> {
        Some(self)
    }

    async fn checkpoint_exists(&self, _: &Context, checkpoint: &Resource) -> Result<bool> {
        Ok(std::path::Path::new(&checkpoint.name).join(machine::ACCOUNT).is_file())
    }

    async fn release(&self, cx: &Context, resource: &Resource) -> Result<()> {
        resume::release(cx, resource).await
    }

    async fn source_digest(&self, cx: &Context) -> Result<Option<String>> {
        let request = self.request()?;
        let Platform { os, architecture, variant } = &request.platform;
        let digest = request.digest(cx).await?;
        Ok(Some(format!("{digest} {os}/{architecture}/{variant}")))
    }

    fn config(&self) -> Option<Value> {
        packer_core::config::to_value(self)
    }

    fn capture_arguments(&self) -> &'static [&'static str] {
        &["author", "cmd", "entrypoint", "labels", "output", "ports", "stop_signal", "volumes"]
    }

    fn variables(&self) -> Vec<Cow<'static, str>> {
        vec!["ImageSha256".into()]
    }

    fn type_name(&self) -> Cow<'static, str> {
        "oci".into()
    }
}

impl Oci {
    fn budget(&self) -> Budget {
        Budget::new(self.base_limit)
    }

    /// The variables and the folder of commands.
    fn surroundings(
        &self,
        base: &ImageConfig,
        rootfs: &Arc<rootfs::Rootfs>,
    ) -> Result<(Vec<String>, String)> {
        let mut config = base.clone();
        self.configure(&mut config)?;
        let mut run = config.config;
        if run.env("PATH").is_none() {
            run.set_env("PATH", runtime::PATH);
        }
        if run.env("HOME").is_none() {
            run.set_env("HOME", "/root");
        }
        let folder = std::path::Path::new(&run.working_dir);
        let there = rootfs.look(folder).map_err(|e| Error::io("open", folder, e))?;
        let usable = folder.is_absolute() && there.is_some_and(|(_, there)| there.is_dir());
        Ok((run.env, if usable { run.working_dir } else { "/".to_owned() }))
    }
}
