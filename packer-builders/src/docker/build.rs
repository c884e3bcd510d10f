//! The block `build`: an image from a Dockerfile, made by the engine before the container starts.

use std::collections::HashMap;
use std::path::{Path, PathBuf};

use bollard::auth::DockerCredentials;
use bollard::query_parameters::{BuildImageOptionsBuilder, BuilderVersion};
use packer_core::docker::{BuildContext, Client, Reference, resources};
use packer_core::event::Level;
use packer_core::{Context, Error, Result};

use super::ignore::Ignore;
use super::{Docker, DockerBuild, dockerfile};

impl DockerBuild {
    /// What can be said without an engine.
    pub(super) fn check(&self) -> Vec<String> {
        let mut found = Vec::new();
        if self.path.is_empty() {
            found.push("path is required in a build block".to_owned());
        } else {
            match std::fs::metadata(&self.path) {
                Ok(metadata) if metadata.is_file() => {}
                Ok(_) => found.push(format!("dockerfile {:?} is not a regular file", self.path)),
                Err(e) => {
                    found.push(format!(
                        "failed to stat file {:?}: {}",
                        self.path,
                        Error::io("stat", &self.path, e)
                    ));
                }
            }
        }
        let folder = self.folder();
        match std::fs::metadata(&folder) {
            Ok(metadata) if metadata.is_dir() => {}
            Ok(_) => found.push(format!("build_dir {:?} is not a directory", self.build_dir)),
            Err(e) => found.push(format!(
                "failed to stat build_dir {:?}: {}",
                self.build_dir,
                Error::io("stat", folder, e)
            )),
        }
        found
    }

    fn folder(&self) -> PathBuf {
        PathBuf::from(if self.build_dir.is_empty() { "." } else { &self.build_dir })
    }
}

/// Builds the image; returns its id. It goes with the build, unless what the build makes needs it.
pub(super) async fn image(
    docker: &Docker,
    build: &DockerBuild,
    cx: &Context,
    client: &Client,
) -> Result<String> {
    cx.say("Building base image...");
    let folder = build.folder();
    let dockerfile = std::path::absolute(&build.path).map_err(|e| Error::io("find", &build.path, e))?;
    let text = std::fs::read(&dockerfile).map_err(|e| Error::io("open", &build.path, e))?;
    let ignore = Ignore::read(&folder, &dockerfile)?;
    let inside = relative(&folder, &dockerfile);
    // A Dockerfile from elsewhere, or one that is left out, goes beside the others under a name that none of them has.
    let (name, extra) = match inside.filter(|inside| ignore.admits(inside)) {
        Some(inside) => (inside, None),
        None => {
            let name = format!(".dockerfile.{}", cx.run_id());
            (name.clone(), Some((name, text.clone())))
        }
    };
    let tag = resources::image_name("build");
    let arguments: HashMap<&str, &str> =
        build.arguments.iter().map(|(name, value)| (name.as_str(), value.as_str())).collect();
    let mut options = BuildImageOptionsBuilder::default()
        .dockerfile(&name)
        .t(&tag)
        .rm(true)
        // What a failing instruction leaves goes too.
        .forcerm(true)
        .platform(&docker.platform);
    if !arguments.is_empty() {
        options = options.buildargs(&arguments);
    }
    if build.pull.unwrap_or(true) {
        options = options.pull("true");
    }
    let readable = String::from_utf8_lossy(&text);
    if let Some((line, what)) = dockerfile::needs_buildkit(&readable, &build.arguments)
        && client.has_buildkit().await?
    {
        if !cfg!(feature = "docker-buildkit") {
            return Err(Error::user(format!(
                "{}:{line}: only BuildKit knows {what}, and this program was built without the cargo feature \
                 \"docker-buildkit\" of packer-builders",
                build.path
            )));
        }
        options = options.version(BuilderVersion::BuilderBuildKit);
    }
    let credentials = credentials(docker, cx, client, &readable).await?;
    let exceptions = ignore.has_exceptions();
    let admits = move |path: &str| ignore.admits(path) || (exceptions && folder_of_exceptions(path));
    let context = BuildContext { folder, admits: Box::new(admits), extra, compress: build.compress };
    let resource = client.image_resource(&tag, None, serde_json::json!({ "commit": docker.commit }));
    // Shown only where it failed, as the reason.
    let printed = std::sync::Mutex::new(String::new());
    let keep = |line: &str| {
        let mut printed = printed.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
        printed.push_str(line);
        printed.push('\n');
    };
    let work = client.build(cx, options.build(), credentials, context, keep);
    if let Err(error) = cx.own(resource.clone(), work).await {
        let printed = printed.into_inner().unwrap_or_else(std::sync::PoisonError::into_inner);
        printed.lines().for_each(|line| cx.output(Level::Error, line));
        if !error.is_cancelled() && !error.is_retryable() {
            cx.released(&resource)?; // the engine says that it made nothing
        }
        return Err(error.context("docker build failed"));
    }
    let found = client.image(&tag).await?.and_then(|image| image.id);
    let id = found.ok_or_else(|| Error::provider("docker build failed: the engine made no image"))?;
    cx.say(format!("Finished building base image {id:?}"));
    Ok(id)
}

/// Something in any folder may be brought back; which one shows only in it.
fn folder_of_exceptions(path: &str) -> bool {
    Path::new(path).extension().is_none() && Path::new(path).is_dir()
}

/// The path as seen from the folder, with `/`; `None` where it lies elsewhere.
fn relative(folder: &Path, file: &Path) -> Option<String> {
    let folder = std::fs::canonicalize(folder).ok()?;
    let parent = std::fs::canonicalize(file.parent()?).ok()?;
    let inside = parent.strip_prefix(&folder).ok()?.join(file.file_name()?);
    let parts: Option<Vec<&str>> = inside.components().map(|part| part.as_os_str().to_str()).collect();
    Some(parts?.join("/"))
}

/// The credentials for the registries of the images that a Dockerfile names.
async fn credentials(
    docker: &Docker,
    cx: &Context,
    client: &Client,
    text: &str,
) -> Result<HashMap<String, DockerCredentials>> {
    let mut found = HashMap::new();
    for image in dockerfile::base_images(text) {
        let image = image.as_str();
        let registry = Reference::parse(image).registry();
        if found.contains_key(registry) {
            continue;
        }
        let login = docker.login.credentials(cx, image).await?;
        if let Some(credentials) = client.credentials(cx, registry, login.as_ref()).await {
            let server = credentials.serveraddress.clone().unwrap_or_else(|| registry.to_owned());
            found.insert(server, credentials);
        }
    }
    Ok(found)
}
