//! The host program with a real engine: the examples, and recovery after the program was killed at any instant.
#![expect(clippy::unwrap_used, reason = "a test stops at the first surprise")]
#![cfg(target_os = "linux")]

use std::fs;
use std::io::{BufRead, BufReader, Write};
use std::path::Path;
use std::process::{Child, Command, Output, Stdio};

use packer_core::testing::dockerd::{Dockerd, IMAGE};
use packer_core::testing::require;

#[test]
fn with_an_engine() {
    let Some(mut engine) = Dockerd::start() else { return };
    examples(&mut engine);
    ansible(&engine);
    killed_at_every_instant(&engine);
}

/// The real Ansible reaches into a container, of which only Python is asked.
fn ansible(engine: &Dockerd) {
    if require("ansible-playbook").is_none() {
        return;
    }
    let work = engine.path().join("ansible");
    fs::create_dir_all(&work).unwrap();
    let template = format!(
        r#"source "docker" "m" {{
  image   = "{IMAGE}"
  pull    = false
  discard = true
  # This computer's Python.
  volumes = {{ "/usr" = "/usr", "/lib" = "/lib", "/lib64" = "/lib64" }}
}}
build {{
  sources = ["docker.m"]
  provisioner "ansible" {{
    playbook_file   = "play.yml"
    extra_arguments = ["-e", "word=größe"]
  }}
}}
"#
    );
    let play = "\
- hosts: all
  tasks:
    - copy: { content: \"{{ word }} in {{ ansible_facts.distribution }}\", dest: \"/tmp/a b\", mode: \"0640\" }
    - command: stat -c %a:%U '/tmp/a b'
      register: shown
    - debug: { msg: \"it is {{ shown.stdout }}\" }
    - fetch: { src: \"/tmp/a b\", dest: fetched, flat: true }
";
    fs::write(work.join("m.pkr.hcl"), template).unwrap();
    fs::write(work.join("play.yml"), play).unwrap();
    let shown = succeeds(packer(engine, &work).args(["build", "m.pkr.hcl"]));
    assert!(shown.contains("it is 640:root") && shown.contains("failed=0"), "{shown}");
    let fetched = fs::read_to_string(work.join("fetched")).unwrap();
    assert!(fetched.starts_with("größe in "), "{fetched}");
    assert_eq!(engine.docker(&["ps", "-aq"]), "");
}

fn packer(engine: &Dockerd, work: &Path) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_packer"));
    let at = |name: &str| {
        let path = engine.path().join(name);
        fs::create_dir_all(&path).unwrap();
        path
    };
    command.current_dir(work).env("DOCKER_HOST", engine.address()).env("DOCKER_CONFIG", at("docker-config"));
    command.env("HOME", at("home")).env("TMPDIR", at("tmp")).env("PACKER_CACHE_DIR", at("cache"));
    command.stdin(Stdio::null());
    command
}

fn succeeds(command: &mut Command) -> String {
    let Output { status, stdout, stderr } = command.output().unwrap();
    let shown = format!("{}{}", String::from_utf8_lossy(&stdout), String::from_utf8_lossy(&stderr));
    assert!(status.success(), "{shown}");
    shown
}

fn examples(engine: &mut Dockerd) {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("docker");
    let work = engine.path().join("work");
    fs::create_dir_all(&work).unwrap();
    let example = |name: &str| folder.join(name).display().to_string();
    let base = format!("-var=base={IMAGE}");
    let local = ["build", &base, "-var=pull=false"];

    let init = succeeds(packer(engine, &work).arg("validate").arg(&base).arg(example("web.pkr.hcl")));
    assert!(init.contains("The configuration is valid."), "{init}");
    succeeds(packer(engine, &work).args(local).arg(example("web.pkr.hcl")));
    for (variant, greeting) in [("plain", "hello"), ("loud", "HELLO"), ("spanish", "hola")] {
        let name = format!("example/web:{variant}");
        let run = ["run", "--rm", "--network", "none", "--entrypoint", "cat", &name, "/srv/www/index.html"];
        assert_eq!(engine.docker(&run), format!("{greeting} from {variant}"));
        let config = engine.docker(&[
            "image",
            "inspect",
            "-f",
            "{{json .Config.Entrypoint}}{{json .Config.Cmd}}",
            &name,
        ]);
        assert_eq!(config, "[\"/usr/local/bin/serve\"][\"8080\"]");
    }
    let manifest = fs::read_to_string(work.join("web-manifest.json")).unwrap();
    assert!(manifest.contains("example/web:spanish"), "{manifest}");

    succeeds(packer(engine, &work).args(local).arg(example("from-another.pkr.hcl")));
    for variant in ["small", "large"] {
        let name = format!("example/app:{variant}");
        let run = ["run", "--rm", "--network", "none", "--entrypoint", "cat", &name, "/opt/what"];
        assert_eq!(engine.docker(&run), format!("common\n{variant}"));
    }

    if let Some(registry) = engine.registry(None) {
        let repository = format!("-var=repository={registry}/web");
        let shown = succeeds(packer(engine, &work).args(local).arg(&repository).arg(example("push.pkr.hcl")));
        assert!(shown.contains("latest: digest: sha256:"), "{shown}");
        engine.docker(&["pull", &format!("{registry}/web:1.0")]);
        engine.end_registry();
        // A registry that is away: the exit code says so, and the annotation names the step's line.
        let mut build = packer(engine, &work);
        build.args(local).arg("-json").arg(&repository).arg(example("push.pkr.hcl"));
        let output = build.output().unwrap();
        assert_eq!(output.status.code(), Some(1));
        let annotated = annotate(&example("ci/annotate"), &work, &output.stdout);
        let line = annotated.lines().find(|line| line.starts_with("::error file=")).unwrap_or(&annotated);
        assert!(line.contains("push.pkr.hcl,line=") && line.contains("connection refused"), "{annotated}");
    }
    // A finding about the template, at its own place.
    let wrong = work.join("wrong.pkr.hcl");
    fs::write(
        &wrong,
        "source \"docker\" \"a\" {\n  imge = \"x\"\n}\nbuild {\n  sources = [\"docker.a\"]\n}\n",
    )
    .unwrap();
    let output = packer(engine, &work).args(["build", "-json", "wrong.pkr.hcl"]).output().unwrap();
    let annotated = annotate(&example("ci/annotate"), &work, &output.stdout);
    assert!(
        annotated.contains("::error file=wrong.pkr.hcl,line=2,col=3::Unsupported argument"),
        "{annotated}"
    );
}

fn annotate(program: &str, work: &Path, events: &[u8]) -> String {
    let mut child = Command::new("python3")
        .args([program, "github"])
        .current_dir(work)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    child.stdin.take().unwrap().write_all(events).unwrap();
    String::from_utf8(child.wait_with_output().unwrap().stdout).unwrap()
}

/// A build with everything that leaves something: a built image, a container with a volume, a shared folder, an image,
/// a name.
fn template(work: &Path) {
    fs::write(work.join("Dockerfile"), format!("FROM {IMAGE}\nRUN echo built > /built\nVOLUME /data\n"))
        .unwrap();
    let text = r#"
        source "docker" "a" {
          commit = true
          build {
            path = "Dockerfile"
            pull = false
          }
        }
        build {
          sources = ["docker.a"]
          provisioner "shell" {
            inline = ["echo x > /data/x; echo y > /y"]
          }
          post-processor "docker-tag" {
            repository = "killed/image"
            tags       = ["1"]
          }
        }
    "#;
    fs::write(work.join("t.pkr.hcl"), text).unwrap();
}

/// Kills the program when it has told its Nth event, for every N, and recovers: nothing is left but, once it was complete,
/// the artifact.
fn killed_at_every_instant(engine: &Dockerd) {
    let work = engine.path().join("killed");
    fs::create_dir_all(&work).unwrap();
    template(&work);
    // The layers of the Dockerfile stay in the engine's cache, as `docker build` leaves them.
    engine.docker(&["build", "-q", "-t", "warm:1", &work.display().to_string()]);
    // What is not of the run must stay, whatever it looks like.
    engine.docker(&["create", "--name", "packer-bystander", IMAGE]);
    engine.docker(&["tag", IMAGE, "packer-commit:bystander"]);
    engine.docker(&["volume", "create", "bystander"]);
    let before = engine.inventory();
    let (mut instant, mut complete) = (0, 0);
    loop {
        instant += 1;
        let mut build =
            packer(engine, &work).args(["build", "-json", "."]).stdout(Stdio::piped()).spawn().unwrap();
        let finished = kill_at(&mut build, instant);
        let _ = build.wait();
        if finished {
            break;
        }
        succeeds(packer(engine, &work).arg("recover"));
        let left: Vec<_> = engine.inventory().into_iter().filter(|item| !before.contains(item)).collect();
        let (images, names): (Vec<_>, Vec<_>) = left.iter().partition(|item| item.starts_with("sha256:"));
        let is_name = |item: &&String| ["<none>:<none>", "killed/image:1"].contains(&item.as_str());
        assert!(names.iter().all(is_name), "after a kill at event {instant}: {left:?}");
        assert!(images.len() <= 1, "after a kill at event {instant}: {left:?}");
        if let [image] = images[..] {
            complete += 1;
            engine.docker(&["rmi", "-f", image]);
        }
        assert_eq!(engine.inventory(), before, "after a kill at event {instant}");
        for folder in ["tmp", "home/.config/packer", "cache/.ledger"] {
            let left: Vec<_> =
                fs::read_dir(engine.path().join(folder)).into_iter().flatten().flatten().collect();
            assert!(left.is_empty(), "after a kill at event {instant}: {folder} holds {left:?}");
        }
    }
    assert!(instant > 15, "the build told only {instant} events");
    assert!(0 < complete && complete < instant / 2, "{complete} of {instant} kills left an artifact");
}

/// Whether the build ended before it had told so many events of steps and resources.
fn kill_at(build: &mut Child, instant: usize) -> bool {
    let mut lines = BufReader::new(build.stdout.take().unwrap()).lines();
    let mut seen = 0;
    while let Some(Ok(line)) = lines.next() {
        let counts = ["step_started", "step_finished", "resource_owned", "resource_released"];
        if counts.iter().any(|kind| line.contains(&format!("\"event\":\"{kind}\""))) {
            seen += 1;
            if seen == instant {
                build.kill().unwrap();
                return false;
            }
        }
    }
    true
}
