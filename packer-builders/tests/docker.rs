//! The builder `docker` against a real engine.
#![cfg(all(feature = "docker", target_os = "linux"))]
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    reason = "tests stop at the first surprise"
)]

use std::sync::Arc;
use std::time::Duration;

use packer_builders::{Docker, DockerBuild};
use packer_core::builder::CheckpointKey;
use packer_core::docker::Login;
use packer_core::testing::dockerd::{Dockerd, IMAGE};
use packer_core::testing::{Bench, FakeProvisioner, Recorder, boot_test, builder, checkpoints};
use packer_core::{
    Artifact, Build, Builder, CommunicatorExt, Engine, Fault, Host, MemoryLedger, Pipeline, ProvisionerExt,
    Registry, Report,
};

fn base() -> Docker {
    Docker::image(IMAGE).no_pull()
}

async fn build(host: &Host, docker: Docker, script: &str) -> (Report, Recorder) {
    let recorder = Recorder::new();
    let build = Build::new("a", docker).provision(FakeProvisioner::run(script));
    let engine = Engine::new().host(host.clone()).events(recorder.clone());
    (engine.run(Pipeline::of([build])).await.unwrap(), recorder)
}

/// The artifact of a build that succeeds.
async fn made(host: &Host, docker: Docker, script: &str) -> Artifact {
    let (report, recorder) = build(host, docker, script).await;
    assert!(report.succeeded(), "{:?} {:?}", report.builds[0].error, recorder.lines());
    report.builds[0].artifacts[0].clone()
}

/// The error of a build that fails.
async fn fails(host: &Host, docker: Docker) -> packer_core::Error {
    let (mut report, _) = build(host, docker, "true").await;
    let build = report.builds.remove(0);
    assert!(build.left.is_empty(), "{:?}", build.left);
    build.error.expect("the build fails")
}

fn registry() -> Registry {
    let mut registry = Registry::new();
    packer_builders::register(&mut registry);
    registry
}

#[tokio::test(flavor = "multi_thread")]
async fn images() {
    let Some(mut engine) = Dockerd::start() else { return };
    let host = engine.host();
    let before = engine.inventory();
    Box::pin(commits(&engine, &host)).await;
    Box::pin(exports(&engine, &host)).await;
    Box::pin(from_a_dockerfile(&engine, &host)).await;
    Box::pin(names_of_others_are_safe(&engine, &host)).await;
    Box::pin(what_the_program_must_do(&engine, &host)).await;
    Box::pin(states(&engine, &host)).await;
    Box::pin(ten_at_once(&engine, &host)).await;
    Box::pin(wrong_things(&host)).await;
    Box::pin(suites(&host)).await;
    assert_eq!(engine.inventory(), before, "what is left in the engine");
    Box::pin(registries(&mut engine, &host)).await;
    assert!(std::fs::read_dir(engine.path().join("home/.config/packer")).unwrap().next().is_none());
    // It would hide what Packer finds in the other one.
    assert!(!engine.path().join("home/.packer.d").exists());
    Box::pin(engine_dies(&mut engine, &host)).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn boot_tests() {
    let Some(engine) = Dockerd::start() else { return };
    let host = engine.host();
    let before = engine.inventory();
    Box::pin(boot_test::suite(|| base().commit(), &host, "/marker")).await;
    let bench = Bench::new();
    let tar = bench.folder().join("out.tar");
    for (script, passes) in [("test -f /marker", true), ("test ! -e /marker", false)] {
        let docker = base().export(tar.display().to_string());
        let build = Build::new("a", docker).provision(FakeProvisioner::run("touch /marker"));
        let build = build.test(FakeProvisioner::run(script));
        let report = Engine::new().host(host.clone()).run(Pipeline::of([build])).await.unwrap();
        let error = &report.builds[0].error;
        assert_eq!(report.succeeded(), passes, "{error:?}");
        assert!(report.builds[0].left.is_empty(), "{:?}", report.builds[0].left);
        let kept = if passes { tar.clone() } else { tar.with_file_name("out.failed-test.tar") };
        assert_eq!(report.builds[0].artifacts[0].files, std::slice::from_ref(&kept));
        assert!(kept.exists() && (passes || !tar.exists()));
    }
    let build = Build::new("a", base().discard()).test(FakeProvisioner::run(""));
    let refused = Engine::new().host(host.clone()).run(Pipeline::of([build])).await.unwrap_err();
    assert!(refused.to_string().contains("there is nothing to test"), "{refused}");
    assert_eq!(engine.inventory(), before, "nothing is left in the engine");
}

async fn commits(engine: &Dockerd, host: &Host) {
    let docker = base().change("LABEL a=b").change("CMD [\"/bin/date\"]").commit();
    let artifact = made(host, docker, "echo hello > /note").await;
    assert_eq!(artifact.builder_id, "packer.post-processor.docker-import");
    let shown =
        engine.docker(&["run", "--rm", "--network", "none", "--entrypoint", "cat", &artifact.id, "/note"]);
    assert_eq!(shown, "hello");
    let config = engine.docker(&[
        "image",
        "inspect",
        "-f",
        "{{json .Config.Cmd}} {{json .Config.Labels}} {{.RepoTags}}",
        &artifact.id,
    ]);
    assert_eq!(config, "[\"/bin/date\"] {\"a\":\"b\"} []");
    assert_eq!(artifact.generated_data["ImageSha256"], artifact.id);
    engine.docker(&["rmi", &artifact.id]);
}

async fn exports(engine: &Dockerd, host: &Host) {
    let path = engine.path().join("out/deep/root.tar");
    let artifact = made(host, base().export(path.display().to_string()), "echo hello > /note").await;
    assert_eq!(artifact.files, std::slice::from_ref(&path));
    let mut tar = tar::Archive::new(std::fs::File::open(&path).unwrap());
    let names: Vec<_> = tar.entries().unwrap().map(|e| e.unwrap().path().unwrap().into_owned()).collect();
    assert!(names.iter().any(|name| name.ends_with("note")), "{names:?}");
    let blocked = engine.path().join("out/deep/root.tar/below.tar");
    assert!(fails(host, base().export(blocked.display().to_string())).await.message().contains("mkdir"));
}

async fn from_a_dockerfile(engine: &Dockerd, host: &Host) {
    let context = engine.path().join("context");
    std::fs::create_dir_all(context.join("sub")).unwrap();
    std::fs::write(context.join("sub/kept"), "kept").unwrap();
    std::fs::write(context.join("secret"), "no").unwrap();
    std::fs::write(context.join(".dockerignore"), "secret\n").unwrap();
    let file = engine.path().join("Dockerfile.elsewhere");
    std::fs::write(&file, format!("FROM {IMAGE}\nARG WHO\nCOPY . /all\nRUN echo $WHO > /who\n")).unwrap();
    for compress in [false, true] {
        let mut block = DockerBuild::from(file.display().to_string());
        block.build_dir = context.display().to_string();
        block.pull = Some(false);
        block.compress = compress;
        block.arguments.insert("WHO".into(), format!("you & {compress}"));
        let script = "test ! -e /all/secret && test -e /all/sub/kept && test ! -e /all/Dockerfile.elsewhere && cat /who";
        let (report, recorder) = build(host, Docker::build(block.clone()).discard(), script).await;
        assert!(report.succeeded(), "{:?}", report.builds[0].error);
        assert!(recorder.lines().contains(&format!("you & {compress}")), "{:?}", recorder.lines());
    }
    let mut block = DockerBuild::from(file.display().to_string());
    block.build_dir = context.display().to_string();
    block.pull = Some(false);
    let artifact = made(host, Docker::build(block.clone()).commit(), "true").await;
    assert!(engine.docker_quietly(&["image", "inspect", &artifact.id]));
    assert!(!engine.docker(&["images"]).contains("packer-build"), "the built image has lost its name");
    engine.docker(&["rmi", &artifact.id]);
    engine.docker(&["image", "prune", "-f"]);
    std::fs::write(&file, format!("FROM {IMAGE}\nRUN echo reason; exit 3\n")).unwrap();
    let (report, recorder) = build(host, Docker::build(block).discard(), "true").await;
    let error = report.builds[0].error.as_ref().unwrap();
    assert!(error.message().starts_with("docker build failed: the engine: The command"), "{error}");
    assert!(recorder.lines().iter().any(|line| line == "reason"));
}

/// A name that the user chose and somebody else has already is not ours to remove.
async fn names_of_others_are_safe(engine: &Dockerd, host: &Host) {
    engine.docker(&["run", "-d", "-i", "--network", "none", "--name", "theirs", IMAGE]);
    let command = ["-d", "-i", "-t", "--name", "theirs", "--entrypoint=/bin/sh", "--", "{{.Image}}"];
    let error = fails(host, base().run_command(command).discard()).await;
    assert!(error.message().contains("is already in use"), "{error}");
    assert_eq!(engine.docker(&["inspect", "-f", "{{.State.Running}}", "theirs"]), "true");
    engine.docker(&["rm", "-f", "theirs"]);
}

async fn what_the_program_must_do(engine: &Dockerd, host: &Host) {
    let command = ["-dit", "--health-cmd", "true", "--entrypoint=/bin/sh", "--", "{{.Image}}"];
    let (report, _) = build(host, base().run_command(command).discard(), "true").await;
    assert!(report.succeeded(), "{:?}", report.builds[0].error);
    let mut poor = host.clone();
    poor.env.insert("PATH".into(), engine.path().display().to_string());
    let error = fails(&poor, base().run_command(command).discard()).await;
    assert!(error.message().contains("--health-cmd is only known to the program docker"), "{error}");
    let mut elsewhere = base().discard();
    elsewhere.docker_path = "no-such-docker".into();
    let error = fails(host, elsewhere).await;
    assert_eq!(error.message(), "exec: \"no-such-docker\": executable file not found in $PATH");
}

async fn states(engine: &Dockerd, host: &Host) {
    let bench = Bench::with_host(host.clone());
    let cx = bench.context();
    let docker = base().commit();
    let digest = docker.source_digest(cx).await.unwrap().unwrap();
    assert_eq!(digest, engine.docker(&["image", "inspect", "-f", "{{.Id}}", IMAGE]));
    assert_eq!(Docker::image("no/such:1").no_pull().source_digest(cx).await.unwrap(), None);
    let machine = docker.launch(cx).await.unwrap();
    machine.communicator().output(cx, "echo step > /step").await.unwrap();
    let key = CheckpointKey("sha256/abc".into());
    let saved = machine.checkpoint(cx, &key).await.unwrap().unwrap();
    release(&docker, &bench, |kind| kind == "container").await;
    let saved: packer_core::Resource = serde_json::from_str(&serde_json::to_string(&saved).unwrap()).unwrap();
    let machine = docker.resume(cx, &saved).await.unwrap();
    assert_eq!(machine.communicator().read(cx, "/step").await.unwrap(), b"step\n");
    let artifact = machine.capture(cx).await.unwrap();
    let config = engine.docker(&[
        "image",
        "inspect",
        "-f",
        "{{json .Config.Cmd}} {{json .Config.Entrypoint}}",
        &artifact.id,
    ]);
    assert_eq!(config, "[\"/bin/sh\"] [\"\"]", "those of the source, not of the checkpoint");
    release(&docker, &bench, |_| true).await;
    assert!(docker.resume(cx, &saved).await.unwrap_err().message().contains("not in the engine any more"));
    release(&docker, &bench, |_| true).await;
}

async fn release(docker: &Docker, bench: &Bench, what: impl Fn(&str) -> bool) {
    for resource in bench.outstanding().into_iter().rev().filter(|r| what(&r.kind)) {
        if resource.is_local() {
            let _ = std::fs::remove_dir_all(&resource.name);
        } else {
            docker.release(bench.context(), &resource).await.unwrap();
        }
        bench.context().released(&resource).unwrap();
    }
}

async fn ten_at_once(engine: &Dockerd, host: &Host) {
    let builds = (0..10).map(|i| {
        let docker = base().commit();
        Build::new(format!("b{i}"), docker).provision(FakeProvisioner::run(format!("echo {i} > /number")))
    });
    let report = Engine::new().host(host.clone()).run(Pipeline::of(builds)).await.unwrap();
    assert!(report.succeeded());
    for (i, build) in report.builds.iter().enumerate() {
        let id = &build.artifacts[0].id;
        let shown =
            engine.docker(&["run", "--rm", "--network", "none", "--entrypoint", "cat", id, "/number"]);
        assert_eq!(shown, i.to_string());
        engine.docker(&["rmi", id]);
    }
}

async fn wrong_things(host: &Host) {
    let mut nowhere = host.clone();
    nowhere.env.insert("DOCKER_HOST".into(), "unix:///no/such.sock".into());
    let error = fails(&nowhere, base().discard()).await;
    assert!(error.message().contains("cannot reach the Docker engine at unix:///no/such.sock"), "{error}");
    assert_eq!(error.fault(), Fault::Network);
    nowhere.env.insert("DOCKER_HOST".into(), "gopher://x".into());
    assert!(fails(&nowhere, base().discard()).await.message().contains("an engine is reached by"));
    let error = fails(host, Docker::image("127.0.0.1:1/no/such:1").discard()).await;
    assert!(error.message().starts_with("pull 127.0.0.1:1/no/such:1: "), "{error}");
    assert_eq!(error.step(), Some("StepPull"));
    // A container that cannot start is removed all the same.
    let error =
        fails(host, base().run_command(["-d", "--entrypoint=/no/such", "{{.Image}}"]).discard()).await;
    assert!(error.message().starts_with("Error running container: "), "{error}");
    // One that has ended says so when something is to run in it.
    let mut ended = base().run_command(["-d", "--entrypoint=/bin/true", "{{.Image}}"]).discard();
    ended.fix_upload_owner = Some(false);
    let error = fails(host, ended).await;
    assert!(
        error.message().contains("has ended with exit code 0") || error.message().contains("exit"),
        "{error}"
    );
    let error = fails(host, base().change("RUN touch /x").commit()).await;
    assert!(error.message().contains("run is not a valid change command"), "{error}");
}

async fn suites(host: &Host) {
    builder::suite(|| base().commit(), host).await;
    builder::recovers(|| base().commit(), &registry(), host).await;
    checkpoints::suite(|| base().commit(), &registry(), host, "/marker").await;
}

async fn registries(engine: &mut Dockerd, host: &Host) {
    let Some(address) = engine.registry(Some(("me", "geheim"))) else { return };
    let name = format!("{address}/private:1");
    engine.docker(&["tag", IMAGE, &name]);
    engine.docker(&["login", "-u", "me", "-p", "geheim", &address]);
    engine.docker(&["push", &name]);
    engine.docker(&["rmi", &name]);
    let (report, recorder) = build(host, Docker::image(&name).discard(), "true").await;
    let error = report.builds[0].error.as_ref().unwrap();
    assert_eq!((error.fault(), error.step()), (Fault::User, Some("StepPull")), "{error:?}");
    let wrong = Docker::image(&name).login(Login::password(&address, "me", "falsch")).discard();
    let error = fails(host, wrong).await;
    assert_eq!(error.fault(), Fault::User, "{error:?}");
    assert!(!recorder.lines().concat().contains("geheim"));
    let right = Docker::image(&name).login(Login::password(&address, "me", "geheim")).discard();
    let (report, recorder) = build(host, right.clone(), "true").await;
    assert!(report.succeeded(), "{:?}", report.builds[0].error);
    assert!(
        recorder.lines().iter().any(|line| line.starts_with("Digest: sha256:")),
        "{:?}",
        recorder.lines()
    );
    let bench = Bench::with_host(host.clone());
    let digest = right.source_digest(bench.context()).await.unwrap();
    assert!(digest.is_some_and(|digest| digest.starts_with("sha256:")));
    // The same from Docker's configuration.
    engine.docker(&["rmi", &name]);
    let mut configured = host.clone();
    let config = engine.path().join("docker-config").display().to_string();
    configured.env.insert("DOCKER_CONFIG".into(), config);
    let (report, _) = build(&configured, Docker::image(&name).discard(), "true").await;
    assert!(report.succeeded(), "{:?}", report.builds[0].error);
    engine.docker(&["rmi", &name]);
    Box::pin(without_credentials(engine, host, &name)).await;
    engine.end_registry();
    let error = fails(&configured, Docker::image(&name).discard()).await;
    assert_eq!(error.fault(), Fault::Network, "{error:?}");
}

/// A configuration of Docker that cannot be read keeps nobody from a public image; who needs credentials hears of it.
async fn without_credentials(engine: &mut Dockerd, host: &Host, private: &str) {
    let folder = engine.path().join("spoilt-config");
    std::fs::create_dir_all(&folder).unwrap();
    let mut host = host.clone();
    host.env.insert("DOCKER_CONFIG".into(), folder.display().to_string());
    let warnings = |recorder: &Recorder| {
        recorder.lines().into_iter().filter(|line| line.starts_with("Warning: ")).collect::<Vec<_>>()
    };
    let helper = r#"{ "credsStore": "not-installed-here" }"#;
    std::fs::write(folder.join("config.json"), helper).unwrap();
    let (report, recorder) = build(&host, Docker::image(private).discard(), "true").await;
    let error = report.builds[0].error.as_ref().unwrap();
    let why = "exec docker-credential-not-installed-here: no such file or directory";
    assert_eq!(error.fault(), Fault::User);
    assert!(error.message().ends_with(&format!("; no credentials were sent: {why}")), "{error}");
    assert_eq!(warnings(&recorder), [format!("Warning: Docker's configuration: {why}")]);
    let address = engine.registry(None).unwrap();
    let public = format!("{address}/public:1");
    engine.docker(&["tag", IMAGE, &public]);
    engine.docker(&["push", &public]);
    for text in [helper, "", "not JSON", "[]"] {
        engine.docker(&["rmi", &public]);
        std::fs::write(folder.join("config.json"), text).unwrap();
        let (report, recorder) = build(&host, Docker::image(&public).discard(), "true").await;
        assert!(report.succeeded(), "{text:?}: {:?}", report.builds[0].error);
        assert_eq!(warnings(&recorder).len(), 1, "{text:?}: {:?}", recorder.lines());
    }
    engine.docker(&["rmi", &public]);
}

/// The engine dies in the middle of a build: that is said, and what is left goes when it is there again.
async fn engine_dies(engine: &mut Dockerd, host: &Host) {
    let before = engine.inventory();
    let ledger = Arc::new(MemoryLedger::new());
    let recorder = Recorder::new();
    let failing = FakeProvisioner::run("echo ready; sleep 100").timeout(Duration::from_secs(60));
    let build = Build::new("a", base().commit()).provision(failing);
    let running = Engine::new().host(host.clone()).ledger(ledger.clone()).events(recorder.clone());
    let running = running.run(Pipeline::of([build]));
    let killing = async {
        while !recorder.lines().iter().any(|line| line == "ready") {
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
        tokio::task::block_in_place(|| engine.kill());
    };
    let (report, ()) = tokio::join!(running, killing);
    let report = report.unwrap();
    assert!(report.builds[0].error.is_some());
    assert_eq!(report.left().map(|left| left.resource.kind.as_str()).collect::<Vec<_>>(), ["container"]);
    tokio::task::block_in_place(|| engine.restart());
    let recovery = Engine::new().host(host.clone()).recover(ledger, &registry()).await;
    assert!(recovery.left.is_empty(), "{:?}", recovery.left);
    assert_eq!(engine.inventory(), before);
}
