//! A real Docker engine and registry of a test's own: own sockets, own folders, own network namespace.

use std::collections::BTreeMap;
use std::fs::File;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use super::{TempFolder, require, rootfs, skip};
use crate::context::Host;

/// How long the engine or the registry may take to start.
const START: Duration = Duration::from_secs(60);

/// The image that is in the engine from the beginning: `busybox`, a user `app` (1000) beside `root`, `CMD ["/bin/sh"]`.
pub const IMAGE: &str = "packer-test/busybox:1";

/// A Docker engine with [`IMAGE`], in a network namespace where nothing but itself is. It ends with this value, with all
/// containers. Needs root.
#[derive(Debug)]
pub struct Dockerd {
    child: Child,
    /// What `dockerd` gets beside what every engine of this kind gets.
    arguments: Vec<String>,
    registry: Option<Child>,
    folder: TempFolder,
}

impl Dockerd {
    /// Starts an engine; `None` where that is not possible, which is then said (see [`require`]).
    ///
    /// # Panics
    /// Where it does not start although everything is there.
    pub fn start() -> Option<Self> {
        Self::with(&[])
    }

    /// Starts an engine with more arguments for `dockerd`. Where it listens on an address, who is [`inside`](Self::inside)
    /// reaches it.
    ///
    /// # Panics
    /// Where it does not start although everything is there.
    pub fn with(arguments: &[&str]) -> Option<Self> {
        let (_, busybox) = (require("dockerd")?, require("busybox")?);
        let (unshare, _) = (require("unshare")?, require("docker")?);
        let id = Command::new("id").arg("-u").output().expect("id -u");
        if String::from_utf8_lossy(&id.stdout).trim() != "0" {
            skip("root, to start a Docker engine");
            return None;
        }
        let folder = TempFolder::new();
        let arguments: Vec<String> = arguments.iter().map(|&argument| argument.to_owned()).collect();
        let child = spawn_engine(&unshare, folder.path(), &arguments);
        let engine = Self { child, arguments, registry: None, folder };
        engine.wait();
        let root = engine.path().join("bb");
        rootfs::fill(&root, &busybox);
        engine.import(&root, IMAGE);
        let _ = std::fs::remove_dir_all(&root);
        Some(engine)
    }

    /// Calls a function on a thread that is in the engine's network: its loopback and the addresses of its containers are
    /// the thread's, and those of threads and processes that it starts (so an async runtime is to be made in there).
    ///
    /// # Panics
    /// Where the thread cannot get there; where the function panics.
    #[cfg(target_os = "linux")]
    pub fn inside<T: Send>(&self, work: impl FnOnce() -> T + Send) -> T {
        use rustix::thread::{LinkNameSpaceType, move_into_link_name_space};
        use std::os::fd::AsFd;
        let network = File::open(format!("/proc/{}/ns/net", self.child.id())).expect("the engine's network");
        let enter = || {
            move_into_link_name_space(network.as_fd(), Some(LinkNameSpaceType::Network))
                .expect("a thread enters the engine's network");
            work()
        };
        let ended = std::thread::scope(|scope| scope.spawn(enter).join());
        ended.unwrap_or_else(|panic| std::panic::resume_unwind(panic))
    }

    fn wait(&self) {
        let deadline = Instant::now() + START;
        while !self.docker_quietly(&["info"]) {
            let log = std::fs::read_to_string(self.path().join("d.log")).unwrap_or_default();
            assert!(Instant::now() < deadline, "dockerd does not answer: {log}");
            std::thread::sleep(Duration::from_millis(50));
        }
    }

    /// Kills the engine as a crash would; it stays away until [`restart`](Self::restart).
    pub fn kill(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
        // Its helper, which it started itself, would keep the next one from starting.
        let number = self.path().join("exec/containerd/containerd.pid");
        let helper = std::fs::read_to_string(&number).unwrap_or_default();
        let _ = Command::new("kill").args(["-KILL", helper.trim()]).stderr(Stdio::null()).status();
        let deadline = Instant::now() + START;
        while Path::new("/proc").join(helper.trim()).join("exe").exists() && Instant::now() < deadline {
            std::thread::sleep(Duration::from_millis(10));
        }
        let _ = std::fs::remove_file(number);
    }

    /// Starts the engine again in a network namespace of its own.
    pub fn restart(&mut self) {
        let _ = std::fs::remove_file(self.path().join("d.pid"));
        let unshare = require("unshare").expect("unshare was there before");
        self.child = spawn_engine(&unshare, self.folder.path(), &self.arguments);
        self.wait();
    }

    /// Where the engine's files are.
    pub fn path(&self) -> &Path {
        self.folder.path()
    }

    /// What `DOCKER_HOST` is to be.
    pub fn address(&self) -> String {
        format!("unix://{}/d.sock", self.path().display())
    }

    /// What lends components the way to this engine, a home folder and temporary folders of its own.
    pub fn host(&self) -> Host {
        let mut host = Host::new();
        let home = self.path().join("home");
        std::fs::create_dir_all(&home).expect("a home folder");
        host.env = BTreeMap::from([
            ("DOCKER_HOST".to_owned(), self.address()),
            ("HOME".to_owned(), home.display().to_string()),
            ("PATH".to_owned(), std::env::var("PATH").unwrap_or_default()),
        ]);
        host.temp_dir = self.path().join("tmp");
        std::fs::create_dir_all(&host.temp_dir).expect("a folder for temporary files");
        host
    }

    /// Runs the `docker` command against this engine; what it printed.
    ///
    /// # Panics
    /// Where it fails.
    pub fn docker(&self, arguments: &[&str]) -> String {
        let output = self.command(arguments).output().expect("docker runs");
        let errors = String::from_utf8_lossy(&output.stderr).into_owned();
        assert!(output.status.success(), "docker {arguments:?}: {errors}");
        String::from_utf8_lossy(&output.stdout).trim().to_owned()
    }

    /// Whether the `docker` command succeeds.
    pub fn docker_quietly(&self, arguments: &[&str]) -> bool {
        let status = self.command(arguments).stdout(Stdio::null()).stderr(Stdio::null()).status();
        status.is_ok_and(|status| status.success())
    }

    fn command(&self, arguments: &[&str]) -> Command {
        let mut command = Command::new(require("docker").expect("docker was there before"));
        command.args(arguments).env("DOCKER_HOST", self.address()).env("DOCKER_BUILDKIT", "0");
        command.env("DOCKER_CONFIG", self.path().join("docker-config")).stdin(Stdio::null());
        command
    }

    /// Everything that is in the engine: ids of containers and images, names of volumes, in order.
    pub fn inventory(&self) -> Vec<String> {
        let lists = [
            self.docker(&["ps", "-aq", "--no-trunc"]),
            self.docker(&["images", "-aq", "--no-trunc"]),
            self.docker(&["images", "--format", "{{.Repository}}:{{.Tag}}"]),
            self.docker(&["volume", "ls", "-q"]),
        ];
        let mut all: Vec<String> = lists.iter().flat_map(|list| list.lines().map(str::to_owned)).collect();
        all.sort();
        all.dedup();
        all
    }

    /// Starts a registry that the engine reaches at the address returned; `login` (user, password) is what it wants.
    /// `None` where there is no `docker-registry`, which is then said.
    ///
    /// # Panics
    /// Where it does not start.
    pub fn registry(&mut self, login: Option<(&str, &str)>) -> Option<String> {
        let program = require("docker-registry")?;
        let enter = require("nsenter")?;
        self.end_registry();
        let root = self.path().display().to_string();
        let mut config = format!(
            "version: 0.1\nlog: {{level: info}}\nstorage: {{filesystem: {{rootdirectory: {root}/registry}}, delete: {{enabled: true}}}}\n\
             http: {{addr: \"127.0.0.1:5000\"}}\n"
        );
        if let Some((user, password)) = login {
            let htpasswd = require("htpasswd")?;
            let line = Command::new(htpasswd).args(["-nbB", user, password]).output().expect("htpasswd runs");
            std::fs::write(self.path().join("htpasswd"), line.stdout).expect("the registry's users");
            config.push_str(&format!("auth: {{htpasswd: {{realm: test, path: {root}/htpasswd}}}}\n"));
        }
        std::fs::write(self.path().join("r.yml"), config).expect("the registry's configuration");
        let log = File::create(self.path().join("r.log")).expect("the registry's log");
        let child = Command::new(enter)
            .args(["-t", &self.child.id().to_string(), "-n", "--"])
            .arg(program)
            .arg("serve")
            .arg(self.path().join("r.yml"))
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(log)
            .spawn();
        self.registry = Some(child.expect("docker-registry starts"));
        let deadline = Instant::now() + START;
        loop {
            let log = std::fs::read_to_string(self.path().join("r.log")).unwrap_or_default();
            if log.contains("listening on") {
                return Some("127.0.0.1:5000".to_owned());
            }
            assert!(Instant::now() < deadline, "docker-registry does not listen: {log}");
            std::thread::sleep(Duration::from_millis(50));
        }
    }

    /// Ends the registry, at once.
    pub fn end_registry(&mut self) {
        let Some(mut child) = self.registry.take() else { return };
        let _ = child.kill();
        let _ = child.wait();
    }

    /// Makes an image of a folder's content, with `PATH=/bin` and `CMD ["/bin/sh"]`.
    ///
    /// # Panics
    /// Where that fails.
    pub fn import(&self, root: &Path, name: &str) {
        let script = "tar -c . | docker import -c 'ENV PATH=/bin' -c 'CMD [\"/bin/sh\"]' - \"$1\"";
        let made = Command::new("/bin/sh")
            .args(["-c", script, "-", name])
            .env("DOCKER_HOST", self.address())
            .current_dir(root)
            .stdout(Stdio::null())
            .status();
        assert!(made.is_ok_and(|status| status.success()), "the image {name} is made");
    }
}

fn spawn_engine(unshare: &Path, folder: &Path, arguments: &[String]) -> Child {
    let root = folder.display().to_string();
    let log = File::create(folder.join("d.log")).expect("the engine's log");
    let errors = log.try_clone().expect("the engine's log");
    // `exec` keeps the process that is waited for, and killed, the engine itself.
    let script = "ip link set lo up; echo 1 > /proc/sys/net/ipv4/ip_forward; root=$1; shift; exec dockerd --data-root \"$root/data\" \
                  --exec-root \"$root/exec\" -p \"$root/d.pid\" -H \"unix://$root/d.sock\" --iptables=false --ip-forward=false --ip-masq=false \"$@\"";
    let path = std::env::var("PATH").unwrap_or_default();
    Command::new(unshare)
        .args(["-n", "/bin/sh", "-c", script, "-", &root])
        .args(arguments)
        .env("PATH", format!("{path}:/usr/sbin:/sbin"))
        .stdin(Stdio::null())
        .stdout(log)
        .stderr(errors)
        .spawn()
        .expect("unshare starts")
}

impl Drop for Dockerd {
    fn drop(&mut self) {
        self.end_registry();
        // Only an engine that ends in peace takes its containers and mounts with it.
        let _ = Command::new("kill").arg(self.child.id().to_string()).stderr(Stdio::null()).status();
        let deadline = Instant::now() + Duration::from_secs(20);
        while matches!(self.child.try_wait(), Ok(None)) && Instant::now() < deadline {
            std::thread::sleep(Duration::from_millis(20));
        }
        let _ = self.child.kill();
        let _ = self.child.wait();
        end_by_file(&self.path().join("exec/containerd/containerd.pid"));
        unmount_below(self.path());
    }
}

/// Ends the process whose number a file holds.
fn end_by_file(path: &PathBuf) {
    if let Ok(number) = std::fs::read_to_string(path) {
        let _ = Command::new("kill").arg(number.trim()).stderr(Stdio::null()).status();
    }
}

fn unmount_below(folder: &Path) {
    let mounts = std::fs::read_to_string("/proc/self/mountinfo").unwrap_or_default();
    let points =
        mounts.lines().filter_map(|line| line.split(' ').nth(4)).filter(|p| Path::new(p).starts_with(folder));
    let mut points: Vec<&str> = points.collect();
    points.sort_unstable();
    for point in points.into_iter().rev() {
        let _ = Command::new("umount").arg("-l").arg(point).stderr(Stdio::null()).status();
    }
}
