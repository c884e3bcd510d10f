//! The host program with Podman's Docker-compatible service.
#![expect(clippy::unwrap_used, reason = "a test stops at the first surprise")]
#![cfg(target_os = "linux")]

use std::fs;
use std::io::{BufRead, BufReader};
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use packer_core::testing::{require, rootfs, skip};

const IMAGE: &str = "localhost/packer-test/busybox:1";

/// What containers need that are in a container themselves; and no locks that other stores have too.
const CONFIGURATION: &str = "[containers]\ndefault_ulimits = [\"nofile=20000:20000\", \"nproc=32768:32768\"]\n\
    [engine]\nruntime = \"runc\"\ncgroup_manager = \"cgroupfs\"\nevents_logger = \"file\"\nlock_type = \"file\"\n\
    [network]\nnetwork_backend = \"netavark\"\n";

/// Podman's service with a store, a socket, a network and processes of its own, and [`IMAGE`]. It ends with this value,
/// with all that it started.
struct Podman {
    service: Option<Child>,
    folder: tempfile::TempDir,
}

impl Podman {
    fn start() -> Option<Self> {
        let busybox = require("busybox")?;
        for program in ["podman", "runc", "unshare"] {
            require(program)?;
        }
        let id = Command::new("id").arg("-u").output().unwrap();
        if id.stdout != b"0\n" {
            skip("root, to start Podman's service");
            return None;
        }
        // It is in no PATH.
        if !["/usr/lib/podman", "/usr/libexec/podman"]
            .iter()
            .any(|at| Path::new(at).join("netavark").exists())
        {
            skip("netavark");
            return None;
        }
        // Podman wants a short path.
        let folder = tempfile::Builder::new().prefix("pod").tempdir_in("/tmp").unwrap();
        let mut podman = Self { service: None, folder };
        fs::write(podman.folder.path().join("containers.conf"), CONFIGURATION).unwrap();
        let root = podman.folder.path().join("bb");
        rootfs::fill(&root, &busybox);
        let archive = podman.folder.path().join("bb.tar");
        let packed = Command::new("tar").arg("-cf").arg(&archive).arg("-C").arg(&root).arg(".").status();
        assert!(packed.unwrap().success());
        podman.service = Some(podman.serve());
        let deadline = Instant::now() + Duration::from_secs(30);
        while UnixStream::connect(podman.folder.path().join("s")).is_err() {
            let log = fs::read_to_string(podman.folder.path().join("log")).unwrap_or_default();
            assert!(Instant::now() < deadline, "podman does not listen: {log}");
            std::thread::sleep(Duration::from_millis(20));
        }
        let archive = archive.display().to_string();
        podman.ask(&["import", "-q", "-c", "ENV PATH=/bin", "-c", "CMD [\"/bin/sh\"]", &archive, IMAGE]);
        Some(podman)
    }

    /// Starts the service. What Podman keeps in places that are no option's is in namespaces that end with it.
    fn serve(&self) -> Child {
        let at = |name: &str| self.folder.path().join(name);
        let script = "set -e; ip link set lo up; mkdir -p /var/lib/containers; mount -t tmpfs tmpfs /var/lib/containers; \
                      mount -t tmpfs tmpfs /run; podman \"$@\"; exit";
        let mut command = Command::new("unshare");
        command.args(["--net", "--mount", "--pid", "--fork", "--kill-child", "--mount-proc"]);
        command.args(["/bin/sh", "-c", script, "podman"]);
        let options =
            [("--root", "root"), ("--runroot", "run"), ("--tmpdir", "tmp"), ("--network-config-dir", "net")];
        for (option, name) in options {
            command.arg(option).arg(at(name));
        }
        command.args(["--storage-driver=vfs", "system", "service", "--time=0", &self.address()]);
        command.env("CONTAINERS_CONF", at("containers.conf")).stdin(Stdio::null()).stdout(Stdio::null());
        command.stderr(fs::File::create(at("log")).unwrap()).spawn().unwrap()
    }

    fn address(&self) -> String {
        format!("unix://{}/s", self.folder.path().display())
    }

    /// Asks the service, by `podman` itself.
    fn ask(&self, arguments: &[&str]) -> String {
        let output = self.command(arguments).output().unwrap();
        assert!(output.status.success(), "{arguments:?}: {}", String::from_utf8_lossy(&output.stderr));
        String::from_utf8_lossy(&output.stdout).trim().to_owned()
    }

    fn command(&self, arguments: &[&str]) -> Command {
        let mut command = Command::new("podman");
        command.args(["--remote", "--url", &self.address()]).args(arguments).stdin(Stdio::null());
        command
    }

    /// The host program in this folder.
    fn packer(&self, work: &Path) -> Command {
        let at = |name: &str| {
            let path = self.folder.path().join(name);
            fs::create_dir_all(&path).unwrap();
            path
        };
        let mut command = Command::new(env!("CARGO_BIN_EXE_packer"));
        command
            .current_dir(work)
            .env("DOCKER_HOST", self.address())
            .env("DOCKER_CONFIG", at("docker-config"));
        command.env("HOME", at("home")).env("TMPDIR", at("packer-tmp")).env("PACKER_CACHE_DIR", at("cache"));
        command.stdin(Stdio::null()).stderr(Stdio::inherit()).stdout(Stdio::piped());
        command
    }

    /// No container, no shared folder, no temporary file, no entry in the ledger.
    fn nothing_is_left(&self) {
        assert_eq!(self.ask(&["ps", "-aq"]), "");
        for folder in ["packer-tmp", "home/.config/packer", "cache/.ledger"] {
            let entries = fs::read_dir(self.folder.path().join(folder)).into_iter().flatten().flatten();
            let left: Vec<_> = entries.map(|entry| entry.path()).collect();
            assert!(left.is_empty(), "{left:?}");
        }
    }
}

impl Drop for Podman {
    fn drop(&mut self) {
        // Whatever a failed assertion has left; its control groups would stay.
        let _ = self.command(&["rm", "-af", "-t", "0"]).output();
        let Some(mut service) = self.service.take() else { return };
        let _ = service.kill();
        let _ = service.wait();
        // Its processes end a moment after it, and before the folder goes.
        let deadline = Instant::now() + Duration::from_secs(10);
        while UnixStream::connect(self.folder.path().join("s")).is_ok() && Instant::now() < deadline {
            std::thread::sleep(Duration::from_millis(20));
        }
    }
}

const TEMPLATE: &str = r#"
variable "script" {
  default = "cat /config > /note; id -un >> /note"
}
source "docker" "a" {
  image   = "localhost/packer-test/busybox:1"
  pull    = false
  commit  = true
  changes = ["CMD [\"/bin/cat\", \"/note\"]", "LABEL made=here"]
}
build {
  sources = ["docker.a"]
  provisioner "file" {
    source      = "config"
    destination = "/config"
  }
  provisioner "shell" {
    inline = ["echo begun", var.script]
  }
  provisioner "file" {
    direction   = "download"
    source      = "/note"
    destination = "fetched"
  }
  post-processor "docker-tag" {
    repository = "localhost/made"
    tags       = ["1", "latest"]
  }
}
"#;

#[test]
fn podman_builds_and_tags_and_nothing_is_left() {
    let Some(podman) = Podman::start() else { return };
    let work = podman.folder.path().join("work");
    fs::create_dir(&work).unwrap();
    fs::write(work.join("t.pkr.hcl"), TEMPLATE).unwrap();
    fs::write(work.join("config"), "sent by a build\n").unwrap();

    let output = podman.packer(&work).args(["build", "."]).output().unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stdout));
    let note = "sent by a build\nroot";
    assert_eq!(fs::read_to_string(work.join("fetched")).unwrap().trim_end(), note);
    for name in ["localhost/made:1", "localhost/made:latest"] {
        assert_eq!(podman.ask(&["run", "--rm", "--network=none", name]), note);
        assert_eq!(podman.ask(&["image", "inspect", "-f", "{{.Config.Labels.made}}", name]), "here");
    }
    podman.nothing_is_left();

    // Interrupted while a step runs.
    let images = podman.ask(&["images", "-aq"]);
    let mut build = podman.packer(&work).args(["build", "-var=script=sleep 100", "."]).spawn().unwrap();
    let mut lines = BufReader::new(build.stdout.take().unwrap()).lines();
    assert!(lines.any(|line| line.is_ok_and(|line| line.contains("begun"))), "the step runs");
    let interrupted = Instant::now();
    assert!(Command::new("kill").args(["-INT", &build.id().to_string()]).status().unwrap().success());
    let rest: Vec<String> = lines.map_while(Result::ok).collect();
    assert_eq!(build.wait().unwrap().code(), Some(1), "{rest:?}");
    assert!(interrupted.elapsed() < Duration::from_secs(30), "{:?}", interrupted.elapsed());
    podman.nothing_is_left();
    assert_eq!(podman.ask(&["images", "-aq"]), images);
}
