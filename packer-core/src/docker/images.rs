//! What builder and post-processors do with images: pull, push, tag, import, save, remove.

use std::collections::HashMap;
use std::fmt;
use std::path::{Path, PathBuf};
use std::sync::atomic::Ordering;

use bollard::auth::DockerCredentials;
use bollard::body_try_stream;
use bollard::models::{ImageInspect, ProgressDetail};
use bollard::query_parameters::{
    BuildImageOptions, BuilderVersion, CreateImageOptionsBuilder, PushImageOptionsBuilder,
    RemoveImageOptions, TagImageOptionsBuilder,
};
use futures_util::StreamExt;
use tokio_util::io::ReaderStream;

use super::Reference;
use super::client::{Client, shortened};
use super::credentials::{self, Credentials};
use super::lines::Lines;
use super::streams;
use crate::communicator::docker::pack;
use crate::communicator::tree::{Links, LocalTree};
use crate::context::{Context, Progress};
use crate::error::{Error, Fault, Result, os_text};
use crate::event::Level;

impl Client {
    /// What is known of an image that the engine has.
    ///
    /// # Errors
    /// Where the engine cannot say; not where it has no such image.
    pub async fn image(&self, name: &str) -> Result<Option<ImageInspect>> {
        self.find(format!("inspect {name}"), self.api().inspect_image(name)).await
    }

    /// Pulls an image (the tag `latest` where the name has none) with `login`, else with the credentials in Docker's
    /// configuration; shows what the engine says and the progress of each layer.
    ///
    /// # Errors
    /// Where the registry or the engine refuses, or cannot be reached.
    pub async fn pull(
        &self,
        cx: &Context,
        image: &str,
        platform: &str,
        login: Option<&Credentials>,
    ) -> Result<()> {
        let name = Reference::parse(image);
        let options = CreateImageOptionsBuilder::default()
            .from_image(name.repository)
            .tag(name.version())
            .platform(platform)
            .build();
        let (credentials, missing) = self.login_for(cx, name.registry(), login).await;
        let mut shown = Shown::new(cx);
        let (api, pieces) = self.in_pieces()?;
        let mut stream = api.create_image(Some(options), None, credentials);
        while let Some(info) = stream.next().await {
            let info =
                pieces.take(format!("pull {image}"), info).map_err(|e| without(e, missing.as_ref()))?;
            shown.show(info.id.as_deref(), info.status.as_deref(), info.progress_detail.as_ref());
        }
        Ok(())
    }

    /// Pushes an image by its name, with `login`, else with the credentials in Docker's configuration. Returns the
    /// digest under which the registry has it now.
    ///
    /// # Errors
    /// Where there is no such image, or the registry refuses or cannot be reached.
    pub async fn push(
        &self,
        cx: &Context,
        image: &str,
        platform: &str,
        login: Option<&Credentials>,
    ) -> Result<Option<String>> {
        let name = Reference::parse(image);
        let mut options = PushImageOptionsBuilder::default().tag(name.version());
        if !platform.is_empty() {
            options = options.platform(&platform_json(platform));
        }
        let (credentials, missing) = self.login_for(cx, name.registry(), login).await;
        let mut shown = Shown::new(cx);
        let mut digest = None;
        let (api, pieces) = self.in_pieces()?;
        let mut stream = api.push_image(name.repository, Some(options.build()), credentials);
        while let Some(info) = stream.next().await {
            let info =
                pieces.take(format!("push {image}"), info).map_err(|e| without(e, missing.as_ref()))?;
            if let Some(status) = &info.status {
                // `1.2: digest: sha256:… size: 735`
                let told = status.split_once("digest: ").and_then(|(_, rest)| rest.split(' ').next());
                digest = told.map(str::to_owned).or(digest);
            }
            shown.show(None, info.status.as_deref(), info.progress_detail.as_ref());
        }
        Ok(digest)
    }

    /// Gives an image another name; whatever had that name before loses it.
    ///
    /// # Errors
    /// Where the name is malformed or there is no such image.
    pub async fn tag(&self, image: &str, name: &str) -> Result<()> {
        let reference = Reference::parse(name);
        if reference.digest.is_some() {
            return Err(Error::user(format!("tag {name}: a digest cannot be given to an image")));
        }
        let options =
            TagImageOptionsBuilder::default().repo(reference.repository).tag(reference.version()).build();
        self.ask(format!("tag {name}"), self.api().tag_image(image, Some(options))).await
    }

    /// Takes a name from an image, and the image with its last name; by an id, the image itself. What is not there is
    /// no error.
    ///
    /// # Errors
    /// Where a container or another image still needs it.
    pub async fn remove_image(&self, name: &str) -> Result<()> {
        let options = RemoveImageOptions::default();
        self.find(format!("remove {name}"), self.api().remove_image(name, Some(options), None))
            .await
            .map(drop)
    }

    /// Takes a name from an image that must stay although that may be its last one. A name can only be moved, not
    /// taken away, without the risk that the image goes with it: it moves to `other`, which a container or another
    /// name keeps.
    ///
    /// # Errors
    /// Where the engine refuses.
    pub async fn untag_keeping(&self, name: &str, other: &str) -> Result<()> {
        self.tag(other, name).await?;
        match self.remove_image(name).await {
            // Podman does not take the only name from an image in use; it goes when the container is gone.
            Err(e) if e.fault() == Fault::Provider => Ok(()),
            result => result,
        }
    }

    /// Makes an image of the tar of a file system; shows the progress. Returns the image's id.
    ///
    /// # Errors
    /// Where the file cannot be read, or the engine refuses it or a change.
    pub async fn import(
        &self,
        cx: &Context,
        path: &Path,
        name: &str,
        changes: &[String],
        platform: &str,
    ) -> Result<String> {
        let file = tokio::fs::File::open(path).await.map_err(|e| Error::io("open", path, e))?;
        let total = file.metadata().await.ok().map(|m| m.len());
        let mut progress = cx.progress(path.display().to_string(), total);
        let told = move |chunk: std::io::Result<bytes::Bytes>| {
            chunk.inspect(|bytes| progress.advance(bytes.len() as u64))
        };
        let body = body_try_stream(ReaderStream::with_capacity(file, streams::CHUNK).map(told));
        let mut options =
            CreateImageOptionsBuilder::default().from_src("-").changes(changes.to_vec()).platform(platform);
        if !name.is_empty() {
            let reference = Reference::parse(name);
            options = options.repo(reference.repository);
            if let Some(tag) = reference.tag {
                options = options.tag(tag);
            }
        }
        let mut id = None;
        let (api, pieces) = self.in_pieces()?;
        let mut stream = api.create_image(Some(options.build()), Some(body), None);
        while let Some(info) = stream.next().await {
            let info = pieces.take(format!("import {}", path.display()), info)?;
            id = info.status.or(id);
        }
        id.map(|id| id.trim().to_owned())
            .ok_or_else(|| Error::provider("the engine did not say which image it made"))
    }

    /// Writes an image with this name into a tar that `docker load` reads; shows the progress.
    ///
    /// # Errors
    /// Where there is no such image or the file cannot be written; nothing is left of it then.
    pub async fn save(&self, cx: &Context, image: &str, path: &Path) -> Result<()> {
        let size =
            self.image(image).await?.and_then(|image| image.size).and_then(|size| size.try_into().ok());
        let (api, pieces) = self.in_pieces()?;
        let stream = api.export_image(image).map(|chunk| pieces.take("save", chunk));
        streams::to_file(cx, path, 0o644, size, stream).await
    }

    /// The digest under which the image's registry has it, asked through the engine; nothing is pulled.
    ///
    /// # Errors
    /// Where the registry does not have it, refuses, or cannot be reached.
    pub async fn registry_digest(
        &self,
        cx: &Context,
        image: &str,
        login: Option<&Credentials>,
    ) -> Result<Option<String>> {
        // What is wrong with Docker's configuration, who pulls the image will say.
        let (credentials, _) = found_for(cx, Reference::parse(image).registry(), login).await;
        let found = self.api().inspect_registry_image(image, credentials);
        let found = self.ask(format!("look up {image}"), found).await?;
        Ok(found.descriptor.digest)
    }
}

/// What the engine gets to build an image from.
pub struct BuildContext {
    /// The folder.
    pub folder: PathBuf,
    /// Which paths in it, seen from the folder, go to the engine; of a folder that does not go, nothing does.
    pub admits: Box<dyn Fn(&str) -> bool + Send>,
    /// The name and content of one file more.
    pub extra: Option<(String, Vec<u8>)>,
    /// Whether it is compressed on the way.
    pub compress: bool,
}

impl fmt::Debug for BuildContext {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "BuildContext({})", self.folder.display())
    }
}

impl Client {
    /// Whether BuildKit is in the engine. In Podman's service it is not: that one's only builder does what BuildKit does.
    ///
    /// # Errors
    /// Where the engine cannot be asked.
    pub async fn has_buildkit(&self) -> Result<bool> {
        let version = self.ask("version", self.api().version()).await?;
        let podman = version.components.iter().flatten().any(|part| part.name.contains("Podman"));
        Ok(!podman && version.os.as_deref() != Some("windows"))
    }

    /// Builds an image of a Dockerfile with the engine's first builder, or with BuildKit where
    /// [`options.version`](BuildImageOptions::version) says so; `show` gets the lines that it prints.
    ///
    /// # Errors
    /// Where the folder cannot be read, an instruction fails, or the engine does not understand one; for BuildKit without
    /// the cargo feature `docker-buildkit`.
    pub async fn build(
        &self,
        cx: &Context,
        options: BuildImageOptions,
        credentials: HashMap<String, DockerCredentials>,
        context: BuildContext,
        show: impl Fn(&str) + Send + Sync,
    ) -> Result<()> {
        let BuildContext { folder, admits, extra, compress } = context;
        let tree = LocalTree::select(cx, &folder, Links::Kept, admits).await?;
        let progress = cx.progress(format!("Sending {}", folder.display()), Some(tree.total));
        let (writer, stream) = streams::body();
        let packing = cx.blocking(move |stop| {
            let extra = extra.as_ref().map(|(name, content)| (name.as_str(), content.as_slice()));
            let ids = Some((0, 0));
            let done =
                |writer: streams::BodyWriter| writer.finish().map_err(|e| Error::provider(os_text(&e)));
            if !compress {
                return done(pack::tree(stop, writer, &tree, None, ids, extra, Some(progress))?);
            }
            let writer = flate2::write::GzEncoder::new(writer, flate2::Compression::default());
            let writer = pack::tree(stop, writer, &tree, None, ids, extra, Some(progress))?;
            done(writer.finish().map_err(|e| Error::provider(os_text(&e)))?)
        });
        let building = async {
            if options.version == BuilderVersion::BuilderBuildKit {
                #[cfg(feature = "docker-buildkit")]
                return super::buildkit::build(self, cx.host(), options, credentials, stream, &show).await;
                #[cfg(not(feature = "docker-buildkit"))]
                return Err(Error::user(
                    "BuildKit needs the cargo feature \"docker-buildkit\" of packer-core",
                ));
            }
            let (api, pieces) = self.in_pieces()?;
            let mut stream = api.build_image(options, Some(credentials), Some(body_try_stream(stream)));
            let mut lines = Lines::default();
            let show = |lines: Vec<String>| lines.iter().for_each(|line| show(line));
            let built = async {
                while let Some(info) = stream.next().await {
                    let info = pieces.take("the engine", info)?;
                    if let Some(failure) = info.error_detail.and_then(|detail| detail.message) {
                        return Err(Error::user(shortened(&failure)));
                    }
                    match (info.stream, info.status) {
                        (Some(text), _) => show(lines.push(text.as_bytes())),
                        (None, Some(status)) => show(Lines::default().push(format!("{status}\n").as_bytes())),
                        (None, None) => {}
                    }
                }
                Ok(())
            };
            let built = built.await;
            show(lines.end().into_iter().collect());
            built
        };
        let (packed, built) = tokio::join!(packing, building);
        match (packed, built) {
            (Err(packed), Err(built)) => {
                Err(if packed.message().contains("broken pipe") { built } else { packed })
            }
            (packed, built) => built.and(packed),
        }
    }

    /// Writes the file system of a container into a tar; shows the progress.
    ///
    /// # Errors
    /// Where the file cannot be written or the engine breaks off; nothing is left of it then.
    pub async fn export(&self, cx: &Context, container: &str, path: &Path, total: Option<u64>) -> Result<()> {
        let (api, pieces) = self.in_pieces()?;
        let stream = api.export_container(container).map(|chunk| pieces.take("export", chunk));
        streams::to_file(cx, path, 0o644, total, stream).await
    }

    /// The credentials for a registry as requests carry them: `login`, else those in Docker's configuration. Where that
    /// cannot be read there are none, and a warning.
    pub async fn credentials(
        &self,
        cx: &Context,
        registry: &str,
        login: Option<&Credentials>,
    ) -> Option<DockerCredentials> {
        self.login_for(cx, registry, login).await.0
    }

    /// The credentials for a registry as the engine takes them, and where there are none though there may be some, why;
    /// what is secret in them is scrubbed from here on.
    async fn login_for(
        &self,
        cx: &Context,
        registry: &str,
        login: Option<&Credentials>,
    ) -> (Option<DockerCredentials>, Option<Error>) {
        let (found, problem) = found_for(cx, registry, login).await;
        if let Some(problem) = &problem
            && !self.warned.swap(true, Ordering::Relaxed)
        {
            cx.say_error(format!("Warning: Docker's configuration: {problem}"));
        }
        let missing = problem.filter(|_| found.is_none());
        (found, missing)
    }
}

/// The credentials for a registry as the engine takes them, and what was wrong where they were looked for.
async fn found_for(
    cx: &Context,
    registry: &str,
    login: Option<&Credentials>,
) -> (Option<DockerCredentials>, Option<Error>) {
    let (found, problem) = match login {
        Some(login) => (Some(login.clone()), None),
        None => credentials::find(cx.host(), registry).await.into_parts(),
    };
    (found.map(|found| engine_credentials(cx, registry, &found)), problem)
}

/// A failure, and that the reason may be that no credentials were sent.
fn without(error: Error, missing: Option<&Error>) -> Error {
    match missing {
        Some(missing) if error.fault() == Fault::User => {
            error.map_message(|said| format!("{said}; no credentials were sent: {missing}"))
        }
        _ => error,
    }
}

fn engine_credentials(cx: &Context, registry: &str, found: &Credentials) -> DockerCredentials {
    let secret = found.secret.reveal().to_owned();
    cx.secrets().add(&secret);
    let server = if registry == "docker.io" { credentials::DOCKER_HUB } else { registry };
    let mut login =
        DockerCredentials { serveraddress: Some(server.to_owned()), ..DockerCredentials::default() };
    if found.is_identity_token {
        login.identitytoken = Some(secret);
    } else {
        login.username = Some(found.username.clone());
        login.password = Some(secret);
    }
    login
}

/// `linux/arm64/v8` as the push request wants it.
fn platform_json(platform: &str) -> String {
    let names = ["os", "architecture", "variant"];
    let parts = names.into_iter().zip(platform.split('/').filter(|part| !part.is_empty()));
    serde_json::Value::Object(parts.map(|(name, part)| (name.to_owned(), part.into())).collect()).to_string()
}

/// Of how many layers the progress is shown at once. No image has as many; an engine may tell of any number.
const MOST_LAYERS: usize = 1024;

/// No layer has a longer name.
const LONGEST_NAME: usize = 256;

/// What an engine says about layers: lines as they change, and the progress of each.
struct Shown<'a> {
    cx: &'a Context,
    layers: HashMap<String, (String, Progress)>,
}

impl<'a> Shown<'a> {
    fn new(cx: &'a Context) -> Self {
        Self { cx, layers: HashMap::new() }
    }

    fn show(&mut self, layer: Option<&str>, status: Option<&str>, detail: Option<&ProgressDetail>) {
        let Some(status) = status else { return };
        let key = layer.filter(|layer| layer.len() <= LONGEST_NAME).unwrap_or_default();
        let total =
            detail.and_then(|d| d.total).and_then(|total| u64::try_from(total).ok()).filter(|t| *t > 0);
        let current = detail.and_then(|d| d.current).and_then(|current| u64::try_from(current).ok());
        if let (Some(current), Some(total)) = (current, total) {
            let begun = self.layers.get(key).is_some_and(|(of, _)| of == status);
            if !begun && (self.layers.len() < MOST_LAYERS || self.layers.contains_key(key)) {
                let title = if key.is_empty() { status.to_owned() } else { format!("{key}: {status}") };
                let progress = self.cx.progress(title, Some(total));
                self.layers.insert(key.to_owned(), (status.to_owned(), progress));
            }
            if let Some((_, progress)) = self.layers.get_mut(key) {
                progress.set(current);
            }
            return;
        }
        self.layers.remove(key);
        match layer {
            Some(layer) => self.cx.output(Level::Info, format!("{layer}: {status}")),
            None => self.cx.output(Level::Info, status),
        }
    }
}
