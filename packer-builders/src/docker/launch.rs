//! From an image to a container that can be entered.

use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::sync::Arc;

use bollard::errors::Error as EngineError;
use bollard::models::{ContainerCreateBody, HostConfig, ImageInspect};
use bollard::query_parameters::{
    CreateContainerOptionsBuilder, InspectContainerOptions, StartContainerOptions,
};
use packer_core::communicator::docker::{DockerCommunicator, Options};
use packer_core::communicator::{NoCommunicator, Target};
use packer_core::docker::Client;
use packer_core::kit::shell::process;
use packer_core::secrets::first_lines;
use packer_core::{Artifact, Communicator, Context, Error, Facts, Machine, Resource, Result, Value, kit};

use super::machine::{Container, Source};
use super::run_flags::{self, Request, Run};
use super::{Docker, boot_test, build};

/// What stands for the id of an image that is not made yet.
const NO_IMAGE: &str = "ERR_IMAGE_SHA256_NOT_FOUND";

const NO_DIGEST: &str = "Error determining source Docker image digest; this image may not have been pushed yet, which means no \
     distribution digest has been created. If you plan to call docker push later, the digest value will be stored then.";

pub(super) async fn from_source(docker: &Docker, cx: &Context) -> Result<Box<dyn Machine>> {
    find_program(docker, cx)?;
    let shared = cx.step("StepTempDir", async { shared_folder(cx) }).await?;
    let client = Client::connect(cx.host()).await?;
    let (image, found) = match docker.dockerfile() {
        Some(dockerfile) => {
            let id = cx.step("StepBuild", Box::pin(build::image(docker, dockerfile, cx, &client))).await?;
            let found = client.image(&id).await?;
            (id, found)
        }
        None => {
            if docker.pulls() {
                cx.step("StepPull", Box::pin(pull(docker, cx, &client))).await?;
            }
            let found = client.image(&docker.image).await?;
            if found.as_ref().is_none_or(|image| image.repo_digests.as_ref().is_none_or(Vec::is_empty)) {
                cx.say_error(NO_DIGEST);
            }
            (docker.image.clone(), found)
        }
    };
    Box::pin(start(docker, cx, client, &image, found.as_ref().map(Source::of), shared)).await
}

/// The checkpoint is an image; what it was made from once is in its details.
pub(super) async fn from_checkpoint(
    docker: &Docker,
    cx: &Context,
    checkpoint: &Resource,
) -> Result<Box<dyn Machine>> {
    find_program(docker, cx)?;
    let shared = cx.step("StepTempDir", async { shared_folder(cx) }).await?;
    let client = Client::connect(cx.host()).await?;
    let source = Source::from_details(&checkpoint.details);
    if client.image(&checkpoint.name).await?.is_none() {
        return Err(Error::user(format!("the checkpoint {} is not in the engine any more", checkpoint.name)));
    }
    Box::pin(start(docker, cx, client, &checkpoint.name, Some(source), shared)).await
}

/// A container of what a build made. It goes when the test is over, and whatever it changed with it.
pub(super) async fn from_artifact(
    docker: &Docker,
    cx: &Context,
    artifact: &Artifact,
) -> Result<Box<dyn Machine>> {
    find_program(docker, cx)?;
    let shared = cx.step("StepTempDir", async { shared_folder(cx) }).await?;
    let client = Client::connect(cx.host()).await?;
    let image = Box::pin(boot_test::import(docker, cx, &client, artifact)).await?;
    Box::pin(start(docker, cx, client, &image, None, shared)).await
}

/// Makes what is wanted of a checkpoint in a container that never runs. `None` where a container has to run for what is
/// known of it, or has to be made by a program.
pub(super) async fn capture_checkpoint(
    docker: &Docker,
    cx: &Context,
    checkpoint: &Resource,
) -> Result<Option<Artifact>> {
    let kind = docker.communicator_kind();
    if docker.windows_container || !docker.docker_path.is_empty() || !matches!(kind, "docker" | "none") {
        return Ok(None);
    }
    // The folder is what a container of ours is known by.
    let shared = cx.step("StepTempDir", async { shared_folder(cx) }).await?;
    let client = Client::connect(cx.host()).await?;
    let image = checkpoint.name.clone();
    let name = format!("packer-{}", uuid::Uuid::new_v4().simple());
    let resource = client.container_resource(&name, None, &shared.to_string_lossy());
    let binds = vec![format!("{}:{}", shared.display(), docker.container_dir())];
    let host_config = HostConfig { binds: Some(binds), ..HostConfig::default() };
    let body = ContainerCreateBody {
        image: Some(image.clone()),
        host_config: Some(host_config),
        ..ContainerCreateBody::default()
    };
    let request = Request {
        name: None,
        platform: docker.platform.clone(),
        image: image.clone(),
        pull: Some(false),
        body,
    };
    let creating = Box::pin(create(docker, cx, &client, &resource, request));
    let id = cx.step("StepCreate", cx.own(resource.clone(), creating)).await?;
    let source = Source::from_details(&checkpoint.details);
    let facts = if kind == "none" { Facts::new() } else { facts_inside(kind) };
    let facts = with_images(facts, &id, &source);
    let communicator = Arc::new(NoCommunicator::new());
    let container = Container { docker: docker.clone(), client, id, image, communicator, facts, source };
    container.capture(cx).await.map(Some)
}

/// What is known of a container, and of the images that it comes from and becomes.
fn with_images(facts: Facts, id: &str, source: &Source) -> Facts {
    facts
        .id(id)
        .with("ImageSha256", NO_IMAGE)
        .with("SourceImageDigest", source.digest.as_str())
        .with("SourceImageSha256", source.id.as_str())
}

/// What is known of a container that is entered over the engine's API.
fn facts_inside(kind: &str) -> Facts {
    let facts = Facts::new().connection(kind, "", 0, "").password("");
    facts.with("SSHPublicKey", "").with("SSHPrivateKey", Value::from("").sensitive())
}

async fn start(
    docker: &Docker,
    cx: &Context,
    client: Client,
    image: &str,
    source: Option<Source>,
    shared: PathBuf,
) -> Result<Box<dyn Machine>> {
    let id = cx.step("StepRun", Box::pin(run(docker, cx, &client, image, &shared))).await?;
    cx.say(format!("Container ID: {id}"));
    let source = match source {
        Some(source) => source,
        // It was missing, and running it has brought it here.
        None => client.image(image).await?.as_ref().map(Source::of).unwrap_or_default(),
    };
    let inspected = client.api().inspect_container(&id, None::<InspectContainerOptions>);
    let inspected = client.ask(format!("inspect the container {id}"), inspected).await?;
    let networks = inspected.network_settings.and_then(|settings| settings.networks).unwrap_or_default();
    let address = networks.values().find_map(|n| n.ip_address.clone().filter(|ip| !ip.is_empty()));
    let (communicator, facts) = cx
        .step(
            "StepConnect",
            Box::pin(connect(docker, cx, &client, &id, address.unwrap_or_default(), &shared)),
        )
        .await?;
    let facts = with_images(facts, &id, &source);
    Ok(Box::new(Container {
        docker: docker.clone(),
        client,
        id,
        image: image.to_owned(),
        communicator,
        facts,
        source,
    }))
}

async fn connect(
    docker: &Docker,
    cx: &Context,
    client: &Client,
    id: &str,
    address: String,
    shared: &Path,
) -> Result<(Arc<dyn Communicator>, Facts)> {
    let kind = docker.communicator_kind();
    if kind == "none" {
        return Ok((Arc::new(NoCommunicator::new()), Facts::new()));
    }
    if matches!(kind, "ssh" | "winrm") {
        let mut target = Target::default();
        target.host = Some(address).filter(|address| !address.is_empty());
        let communicator = docker.communicator.connect(cx, &target).await?;
        return Ok((communicator, docker.communicator.facts(&target)));
    }
    cx.say(format!("Using docker communicator to connect: {address}"));
    let mut options = Options::default();
    options.exec_user.clone_from(&docker.exec_user);
    options.pty = docker.pty;
    options.keep_upload_owner = docker.fix_upload_owner == Some(false);
    let windows = docker.windows_container || kind == "dockerWindowsContainer";
    options.windows = windows.then(|| (shared.to_path_buf(), docker.container_dir().to_owned()));
    let communicator = DockerCommunicator::connect(client.clone(), id, options).await?;
    Ok((Arc::new(communicator), facts_inside(kind)))
}

/// Where a program is named, it must be there before anything is done.
fn find_program(docker: &Docker, cx: &Context) -> Result<()> {
    let name = docker.docker_path.as_str();
    if name.is_empty() {
        return Ok(());
    }
    let path = cx.env("PATH").map(str::to_owned).unwrap_or_default();
    let here = |path: &Path| path.is_file();
    let found = match name.contains(std::path::is_separator) {
        true => here(Path::new(name)),
        false => std::env::split_paths(&path).any(|folder| {
            here(&folder.join(name)) || (cfg!(windows) && here(&folder.join(format!("{name}.exe"))))
        }),
    };
    if found {
        return Ok(());
    }
    Err(Error::user(format!("exec: {name:?}: executable file not found in $PATH")))
}

/// A folder that the container and this computer share. It lies in Packer's own folder, which is below the home folder,
/// because that is what engines in a virtual machine can see.
fn shared_folder(cx: &Context) -> Result<PathBuf> {
    cx.say("Creating a temporary directory for sharing data...");
    let own = cx.env("PACKER_TMP_DIR").filter(|value| !value.is_empty()).map(PathBuf::from);
    let parent = own.or_else(|| cx.host().config_dir()).unwrap_or_else(|| cx.host().temp_dir.clone());
    std::fs::create_dir_all(&parent).map_err(|e| Error::io("mkdir", &parent, e))?;
    let parent = std::path::absolute(&parent).map_err(|e| Error::io("find", &parent, e))?;
    let path = parent.join(format!("tmp{}", uuid::Uuid::new_v4().as_u64_pair().0));
    cx.record(Resource::directory(&path))?;
    let mut options = std::fs::DirBuilder::new();
    options.recursive(false);
    #[cfg(unix)]
    std::os::unix::fs::DirBuilderExt::mode(&mut options, 0o700);
    options.create(&path).map_err(|e| Error::io("mkdir", &path, e))?;
    Ok(path)
}

async fn pull(docker: &Docker, cx: &Context, client: &Client) -> Result<()> {
    cx.say(format!("Pulling Docker image: {}", docker.image));
    let login = docker.login.credentials(cx, &docker.image).await?;
    client.pull(cx, &docker.image, &docker.platform, login.as_ref()).await?;
    if login.is_some() {
        leave_configuration(cx).await;
    }
    Ok(())
}

/// A log-in and log-out with the `docker` command leaves a configuration file, which scripts of templates may read. Nothing
/// of ours is ever in it.
async fn leave_configuration(cx: &Context) {
    let Some(folder) = packer_core::docker::credentials::config_folder(cx.host()) else { return };
    let path = folder.join("config.json");
    if tokio::fs::create_dir_all(&folder).await.is_ok() {
        let mut options = tokio::fs::OpenOptions::new();
        if let Ok(mut file) = options.write(true).create_new(true).open(&path).await {
            // Without the file all works as well.
            let _ = tokio::io::AsyncWriteExt::write_all(&mut file, b"{\n\t\"auths\": {}\n}").await;
            let _ = tokio::io::AsyncWriteExt::flush(&mut file).await;
        }
    }
}

/// Starts the container; returns its id.
async fn run(docker: &Docker, cx: &Context, client: &Client, image: &str, shared: &Path) -> Result<String> {
    cx.say("Starting docker container...");
    let failed = |e: Error| e.context("Error running container");
    let arguments = arguments(docker, cx, image, shared).map_err(failed)?;
    cx.say(format!("Run command: docker run {}", arguments.join(" ")));
    let shared = shared.to_string_lossy();
    let parsed = run_flags::parse(&arguments, cx.envs()).map_err(failed)?;
    let unique = || format!("packer-{}", uuid::Uuid::new_v4().simple());
    match parsed {
        Run::Request(request) if docker.docker_path.is_empty() => {
            let name = request.name.clone().unwrap_or_else(unique);
            let resource = client.container_resource(&name, None, &shared);
            let creating = Box::pin(create(docker, cx, client, &resource, *request));
            let id = cx.own(resource.clone(), creating).await.map_err(failed)?;
            let what = "Docker did not start it";
            let start = client.api().start_container(&id, None::<StartContainerOptions>);
            let started = client.ask(what, start);
            cx.until_cancelled(started).await.map_err(failed)?;
            Ok(id)
        }
        parsed => {
            let (given, flag) = match parsed {
                Run::Request(request) => (request.name, None),
                Run::Program { flag, name } => (name, Some(flag)),
            };
            let mut words = vec!["run".to_owned()];
            let name = given.clone().unwrap_or_else(unique);
            if given.is_none() {
                words.extend(["--name".to_owned(), name.clone()]);
            }
            words.extend(arguments);
            let resource = client.container_resource(&name, None, &shared);
            cx.own(resource, through_program(docker, cx, client, words, flag, &name)).await.map_err(failed)
        }
    }
}

/// The arguments of `docker run`, those of the builder's own options first.
fn arguments(docker: &Docker, cx: &Context, image: &str, shared: &Path) -> Result<Vec<String>> {
    let mut words = Vec::new();
    let mut flag = |name: &str, value: &str| words.extend([name.to_owned(), value.to_owned()]);
    docker.device.iter().for_each(|value| flag("--device", value));
    docker.cap_add.iter().for_each(|value| flag("--cap-add", value));
    docker.cap_drop.iter().for_each(|value| flag("--cap-drop", value));
    if docker.privileged {
        words.push("--privileged".to_owned());
    }
    let mut flag = |name: &str, value: &str| words.extend([name.to_owned(), value.to_owned()]);
    for (name, value) in [("--runtime", &docker.runtime), ("--platform", &docker.platform)] {
        if !value.is_empty() {
            flag(name, value);
        }
    }
    docker.tmpfs.iter().for_each(|value| flag("--tmpfs", value));
    for (here, there) in &docker.volumes {
        let here = match here.strip_prefix("~/") {
            Some(rest) => {
                let home = cx.env("HOME").or_else(|| cx.env("USERPROFILE"));
                let home = home.ok_or_else(|| Error::user(format!("volumes: {here}: HOME is not known")))?;
                format!("{}/{rest}", home.trim_end_matches('/'))
            }
            None => here.clone(),
        };
        flag("-v", &format!("{here}:{there}"));
    }
    flag("-v", &format!("{}:{}", shared.display(), docker.container_dir()));
    if docker.run_command.is_empty() {
        let shell = if docker.windows_container { "powershell" } else { "/bin/sh" };
        let usual = ["-d", "-i", "-t", &format!("--entrypoint={shell}"), "--", image];
        words.extend(usual.map(str::to_owned));
        return Ok(words);
    }
    for word in &docker.run_command {
        words.push(kit::render_known(cx, word.as_str(), &[("Image", image)])?);
    }
    Ok(words)
}

/// Creates the container; its id is in the ledger then.
async fn create(
    docker: &Docker,
    cx: &Context,
    client: &Client,
    resource: &Resource,
    request: Request,
) -> Result<String> {
    let options =
        CreateContainerOptionsBuilder::default().name(&resource.name).platform(&request.platform).build();
    let image = request.image.clone();
    let create = || {
        let (api, options, body) = (client.api().clone(), options.clone(), request.body.clone());
        let asked = async move { Ok(api.create_container(Some(options), body).await) };
        docker.in_flight.run(resource.id, asked)
    };
    // On the heap: twice in this future, and large.
    let pull = || {
        Box::pin(async {
            let login = docker.login.credentials(cx, &image).await?;
            client.pull(cx, &image, &request.platform, login.as_ref()).await
        })
    };
    if request.pull == Some(true) {
        pull().await?;
    }
    let created = match create().await? {
        Err(EngineError::DockerResponseServerError { status_code: 404, message })
            if request.pull != Some(false) && message.to_lowercase().contains("image") =>
        {
            cx.say_error(format!("Unable to find image '{image}' locally"));
            pull().await?;
            create().await?
        }
        created => created,
    };
    let created = match created {
        Ok(created) => created,
        Err(e) => {
            if matches!(e, EngineError::DockerResponseServerError { .. }) {
                // The engine says that it made nothing.
                cx.released(resource)?;
            }
            return Err(client.error("Docker did not create it", &e));
        }
    };
    let folder = resource.details["mounts"].as_str().unwrap_or_default();
    let known = client.container_resource(&resource.name, Some(&created.id), folder).details;
    cx.record(resource.clone().with_details(known))?;
    Ok(created.id)
}

/// How much the program may print, in bytes, and how much of that a failure tells.
const MOST_SAID: usize = 4 << 20;
const LONGEST_COMPLAINT: usize = 16 << 10;

async fn through_program(
    docker: &Docker,
    cx: &Context,
    client: &Client,
    words: Vec<String>,
    flag: Option<String>,
    name: &str,
) -> Result<String> {
    let program = if docker.docker_path.is_empty() { "docker" } else { &docker.docker_path };
    let mut command = tokio::process::Command::new(program);
    command.args(&words).envs(cx.envs()).env("DOCKER_HOST", client.address());
    command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped()).kill_on_drop(true);
    let child = process::spawn(&mut command).map_err(|e| {
        let why = match flag {
            Some(flag) => format!("{flag} is only known to the program {program}, which cannot be started"),
            None => format!("the program {program} cannot be started"),
        };
        Error::user(format!("{why}: {}", packer_core::error::os_text(&e)))
    })?;
    let output = process::output(child, MOST_SAID).await.map_err(|e| Error::io("wait", program, e))?;
    let errors = String::from_utf8_lossy(&output.stderr);
    if !output.status.success() {
        let errors = first_lines(&errors, LONGEST_COMPLAINT);
        let text = format!("Docker exited with a non-zero exit status.\nStderr: {errors}");
        return Err(Error::provider(text));
    }
    errors.lines().for_each(|line| cx.say_error(line));
    let found = client.api().inspect_container(name, None::<InspectContainerOptions>);
    let found = client.ask(format!("inspect the container {name}"), found).await?;
    found.id.ok_or_else(|| Error::provider("the engine does not say which container it started"))
}

impl Source {
    fn of(image: &ImageInspect) -> Self {
        let config = image.config.as_ref();
        Self {
            id: image.id.clone().unwrap_or_default(),
            digest: image.repo_digests.iter().flatten().next().cloned().unwrap_or_default(),
            cmd: config.and_then(|config| config.cmd.clone()),
            entrypoint: config.and_then(|config| config.entrypoint.clone()),
        }
    }
}
