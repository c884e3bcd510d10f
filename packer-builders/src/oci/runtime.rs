//! Commands inside the image: through `crun`, `runc` or `bwrap`, in namespaces of their own, without being root where the
//! kernel lets anybody have a user namespace.

use std::collections::BTreeMap;
use std::ffi::OsString;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use packer_core::kit::shell::process;
use packer_core::secrets::last_lines;
use packer_core::{Command, Context, Error, ExitStatus, Result};
use rustix::process::{Pid, Signal, kill_process};
use serde_json::json;
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::process::{Child, ChildStdin};
use tokio::sync::OnceCell;

use super::rootfs::Rootfs;

/// What containers of Docker may do, and no more.
const CAPABILITIES: [&str; 14] = [
    "CAP_AUDIT_WRITE",
    "CAP_CHOWN",
    "CAP_DAC_OVERRIDE",
    "CAP_FOWNER",
    "CAP_FSETID",
    "CAP_KILL",
    "CAP_MKNOD",
    "CAP_NET_BIND_SERVICE",
    "CAP_NET_RAW",
    "CAP_SETFCAP",
    "CAP_SETGID",
    "CAP_SETPCAP",
    "CAP_SETUID",
    "CAP_SYS_CHROOT",
];

/// How long a runtime may take to start a command: what it reads of the image may be anything.
const START_LIMIT: Duration = Duration::from_secs(120);

/// Where programs are, for an image that does not say.
pub(super) const PATH: &str = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";

/// The first shell is the container's first process, to which signals mean nothing; the second is like any other.
const SHELL: [&str; 3] = ["/bin/sh", "-c", "/bin/sh -c \"$0\"; exit $?"];

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Kind {
    Crun,
    Runc,
    Bwrap,
}

/// A program that runs commands in a root filesystem.
#[derive(Debug, Clone)]
pub(super) struct Runtime {
    kind: Kind,
    program: PathBuf,
}

/// What is said where there is none.
pub(super) const NONE: &str =
    "commands cannot run in the image: none of crun, runc and bwrap is on the PATH that the host lends";

/// The programs of a `PATH`, the best first.
pub(super) fn find(path: Option<&str>) -> Vec<Runtime> {
    let folders: Vec<PathBuf> = std::env::split_paths(path.unwrap_or_default()).collect();
    let program = |name: &str| {
        folders.iter().filter(|folder| folder.is_absolute()).map(|folder| folder.join(name)).find(|file| {
            use std::os::unix::fs::PermissionsExt;
            fs::metadata(file).is_ok_and(|there| there.is_file() && there.permissions().mode() & 0o111 != 0)
        })
    };
    [(Kind::Crun, "crun"), (Kind::Runc, "runc"), (Kind::Bwrap, "bwrap")]
        .into_iter()
        .filter_map(|(kind, name)| program(name).map(|program| Runtime { kind, program }))
        .collect()
}

/// Runs commands in one root filesystem.
#[derive(Debug)]
pub(super) struct Runner {
    rootfs: Arc<Rootfs>,
    /// A folder for what runtimes need; not in the root filesystem.
    work: PathBuf,
    runtimes: Vec<Runtime>,
    chosen: OnceCell<Runtime>,
    number: AtomicU64,
    /// `NAME=VALUE`
    env: Vec<String>,
    folder: String,
}

impl Runner {
    pub(super) fn new(
        rootfs: Arc<Rootfs>,
        work: PathBuf,
        runtimes: Vec<Runtime>,
        env: Vec<String>,
        folder: String,
    ) -> Self {
        let (chosen, number) = (OnceCell::new(), AtomicU64::new(0));
        Self { rootfs, work, runtimes, chosen, number, env, folder }
    }

    /// Runs a command for the image's shell.
    pub(super) async fn exec(&self, cx: &Context, command: Command<'_>) -> Result<ExitStatus> {
        let runtime = self.chosen.get_or_try_init(|| self.choose()).await?;
        cx.until_cancelled(self.run(runtime, command)).await
    }

    /// The first runtime that runs something here: what is installed need not be allowed.
    async fn choose(&self) -> Result<Runtime> {
        if self.runtimes.is_empty() {
            return Err(Error::user(NONE));
        }
        let shell = self.rootfs.look(Path::new("/bin/sh")).map_err(|e| Error::io("open", "/bin/sh", e))?;
        if shell.is_none_or(|(_, there)| !there.is_file()) {
            return Err(Error::user("commands cannot run in the image: it has no /bin/sh"));
        }
        let mut reasons = String::new();
        for runtime in &self.runtimes {
            match self.run(runtime, Command::new("exit 0")).await {
                Ok(status) if status.success() => return Ok(runtime.clone()),
                Ok(status) => reasons.push_str(&format!(
                    "\n{}: `exit 0` ended with {}",
                    runtime.program.display(),
                    status.code()
                )),
                Err(error) => reasons.push_str(&format!("\n{error}")),
            }
        }
        Err(Error::provider(format!("commands cannot run in the image:{reasons}")))
    }

    async fn run(&self, runtime: &Runtime, command: Command<'_>) -> Result<ExitStatus> {
        self.check_accounts()?;
        let name = runtime.program.display();
        let failed = |e| Error::io("exec", &runtime.program, e);
        let mounts = self.mounts().map_err(|e| Error::io("mkdir", self.rootfs.path(), e))?;
        let number = self.number.fetch_add(1, Ordering::Relaxed);
        let bundle = self.work.join(format!("run-{number}"));
        fs::create_dir_all(&bundle).map_err(|e| Error::io("mkdir", &bundle, e))?;
        let id = format!("packer-{number}");
        let mut program = match runtime.kind {
            Kind::Bwrap => self.bwrap(runtime, &bundle, &mounts, &command.text),
            kind => {
                let config = bundle.join("config.json");
                let text = self.oci_config(&mounts, &command.text).to_string();
                write_private(&config, text.as_bytes()).map_err(|e| Error::io("write", &config, e))?;
                let mut program = tokio::process::Command::new(&runtime.program);
                program.arg("--root").arg(self.work.join("state"));
                if kind == Kind::Crun {
                    // Groups of processes are nothing that a build needs, and not everybody may make them.
                    program.arg("--cgroup-manager=disabled");
                }
                program
                    .arg("run")
                    .arg("--bundle")
                    .arg(&bundle)
                    .arg("--pid-file")
                    .arg(bundle.join("pid"))
                    .arg(&id);
                program
            }
        };
        program.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped()).kill_on_drop(true);
        let mut child = process::spawn(&mut program).map_err(failed)?;
        let mut running =
            Running { bundle: bundle.clone(), rootfs: self.rootfs.path().to_owned(), done: false };
        let mut last_words = Vec::new();
        let status = tokio::select! {
            status = streamed(&mut child, command, &mut last_words) => status.map_err(failed)?,
            () = running.never_starts() => {
                let limit = START_LIMIT.as_secs();
                return Err(Error::provider(format!("{name} did not start the command within {limit} seconds")));
            }
        };
        let started = running.pid().is_some();
        let finished = started && (runtime.kind != Kind::Bwrap || running.told("exit-code").is_some());
        running.done = true;
        drop(running);
        // The command's text is in there.
        let _ = fs::remove_dir_all(&bundle);
        if finished {
            return Ok(status);
        }
        let words = String::from_utf8_lossy(&last_words);
        let words = last_lines(&words, LAST_WORDS);
        let words = words.trim();
        Err(Error::provider(format!(
            "{name} did not start the command: {}",
            if words.is_empty() { "it does not say why" } else { words }
        )))
    }

    /// Runtimes read who there is in the image, and would wait for a pipe for ever.
    fn check_accounts(&self) -> Result<()> {
        for file in ["/etc/passwd", "/etc/group"] {
            if let Ok(Some((_, there))) = self.rootfs.look(Path::new(file))
                && !there.is_file()
            {
                let message = format!("commands cannot run in the image: its {file} is no regular file");
                return Err(Error::user(message));
            }
        }
        Ok(())
    }

    /// What is mounted: where in the image, and what of this computer.
    fn mounts(&self) -> std::io::Result<BTreeMap<PathBuf, PathBuf>> {
        for folder in ["proc", "dev", "sys"] {
            self.rootfs.mountpoint(Path::new(folder), true)?;
        }
        let mut mounts = BTreeMap::new();
        for file in ["/etc/resolv.conf", "/etc/hosts"] {
            let here = Path::new(file);
            if here.is_file() {
                let there = Path::new("/").join(self.rootfs.mountpoint(here, false)?);
                mounts.insert(there, fs::canonicalize(here)?);
            }
        }
        Ok(mounts)
    }

    fn oci_config(&self, mounts: &BTreeMap<PathBuf, PathBuf>, text: &str) -> serde_json::Value {
        let (uid, gid) = (rustix::process::geteuid(), rustix::process::getegid());
        let rootless = !uid.is_root();
        let mut all = vec![
            json!({"destination": "/proc", "type": "proc", "source": "proc", "options": ["nosuid", "noexec", "nodev"]}),
            json!({"destination": "/dev", "type": "tmpfs", "source": "tmpfs", "options": ["nosuid", "mode=755", "size=65536k"]}),
            json!({"destination": "/dev/pts", "type": "devpts", "source": "devpts",
                "options": ["nosuid", "noexec", "newinstance", "ptmxmode=0666", "mode=0620"]}),
            json!({"destination": "/dev/shm", "type": "tmpfs", "source": "shm", "options": ["nosuid", "noexec", "nodev", "mode=1777"]}),
        ];
        all.push(if rootless {
            // The network is this computer's, and so only a view of its /sys can be had.
            json!({"destination": "/sys", "type": "none", "source": "/sys", "options": ["rbind", "nosuid", "noexec", "nodev", "ro"]})
        } else {
            json!({"destination": "/sys", "type": "sysfs", "source": "sysfs", "options": ["nosuid", "noexec", "nodev", "ro"]})
        });
        for (there, here) in mounts {
            all.push(json!({"destination": there, "type": "bind", "source": here, "options": ["bind", "ro", "nosuid", "nodev", "noexec"]}));
        }
        let mut namespaces = vec![
            json!({"type": "pid"}),
            json!({"type": "mount"}),
            json!({"type": "ipc"}),
            json!({"type": "uts"}),
        ];
        let mut linux = json!({
            "maskedPaths": ["/proc/kcore", "/proc/keys", "/proc/timer_list", "/sys/firmware"],
            "readonlyPaths": ["/proc/bus", "/proc/fs", "/proc/irq", "/proc/sys", "/proc/sysrq-trigger"],
        });
        if rootless {
            namespaces.push(json!({"type": "user"}));
            linux["uidMappings"] = json!([{"containerID": 0, "hostID": uid.as_raw(), "size": 1}]);
            linux["gidMappings"] = json!([{"containerID": 0, "hostID": gid.as_raw(), "size": 1}]);
        }
        linux["namespaces"] = namespaces.into();
        let args: Vec<&str> = SHELL.into_iter().chain([text]).collect();
        json!({
            "ociVersion": "1.0.2",
            "process": {
                "terminal": false,
                "user": {"uid": 0, "gid": 0},
                "args": args,
                "env": self.env,
                "cwd": self.folder,
                "capabilities": {"bounding": CAPABILITIES, "effective": CAPABILITIES, "permitted": CAPABILITIES},
                "noNewPrivileges": false,
            },
            "root": {"path": self.rootfs.path(), "readonly": false},
            "hostname": "packer",
            "mounts": all,
            "linux": linux,
        })
    }

    fn bwrap(
        &self,
        runtime: &Runtime,
        bundle: &Path,
        mounts: &BTreeMap<PathBuf, PathBuf>,
        text: &str,
    ) -> tokio::process::Command {
        let mut arguments: Vec<OsString> = Vec::new();
        let mut add = |list: &[&dyn AsRef<std::ffi::OsStr>]| {
            arguments.extend(list.iter().map(|a| a.as_ref().to_owned()))
        };
        add(&[
            &"--json-status-fd",
            &"3",
            &"--unshare-pid",
            &"--unshare-ipc",
            &"--unshare-uts",
            &"--hostname",
            &"packer",
        ]);
        if !rustix::process::geteuid().is_root() {
            add(&[&"--unshare-user", &"--uid", &"0", &"--gid", &"0"]);
        }
        add(&[
            &"--bind",
            &self.rootfs.path(),
            &"/",
            &"--proc",
            &"/proc",
            &"--dev",
            &"/dev",
            &"--ro-bind",
            &"/sys",
            &"/sys",
        ]);
        for (there, here) in mounts {
            add(&[&"--ro-bind", &here, &there]);
        }
        add(&[&"--cap-drop", &"ALL"]);
        for capability in CAPABILITIES {
            add(&[&"--cap-add", &capability]);
        }
        add(&[&"--clearenv", &"--chdir", &self.folder]);
        for (name, value) in self.env.iter().filter_map(|pair| pair.split_once('=')) {
            add(&[&"--setenv", &name, &value]);
        }
        add(&[&"--"]);
        for word in SHELL.iter().chain([&text]) {
            add(&[word]);
        }
        let mut program = tokio::process::Command::new("/bin/sh");
        program
            .args(["-c", "exec \"$@\" 3>\"$0\""])
            .arg(bundle.join("status"))
            .arg(&runtime.program)
            .args(arguments);
        program
    }
}

/// A command that runs. Dropped before it is done, it is killed with all it started.
struct Running {
    bundle: PathBuf,
    rootfs: PathBuf,
    done: bool,
}

impl Running {
    /// A number that `bwrap` tells.
    fn told(&self, name: &str) -> Option<i64> {
        let status = fs::read_to_string(self.bundle.join("status")).ok()?;
        status
            .lines()
            .find_map(|line| serde_json::from_str::<serde_json::Value>(line).ok()?.get(name)?.as_i64())
    }

    /// Returns where the command has not been started in time.
    async fn never_starts(&self) {
        let end = tokio::time::Instant::now() + START_LIMIT;
        while tokio::time::Instant::now() < end {
            tokio::time::sleep(START_LIMIT / 1000).await;
            if self.pid().is_some() {
                return std::future::pending().await;
            }
        }
    }

    /// The first process inside, as this computer knows it.
    fn pid(&self) -> Option<i32> {
        let file = fs::read_to_string(self.bundle.join("pid")).ok().and_then(|text| text.trim().parse().ok());
        file.or_else(|| self.told("child-pid").and_then(|pid| i32::try_from(pid).ok()))
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        if self.done {
            return;
        }
        let this = Self { bundle: self.bundle.clone(), rootfs: self.rootfs.clone(), done: true };
        // The runtime itself is killed by now or soon; what it has begun by then ends with its first process. What is
        // missed here is found when the root filesystem is released.
        std::thread::spawn(move || {
            let began = Instant::now();
            while began.elapsed() < Duration::from_secs(2) {
                if let Some(pid) = this.pid() {
                    if lives_in(pid, &this.rootfs) {
                        kill(pid);
                    }
                    break;
                }
                std::thread::sleep(Duration::from_millis(10));
            }
            let _ = fs::remove_dir_all(&this.bundle);
        });
    }
}

fn kill(pid: i32) {
    if let Some(pid) = Pid::from_raw(pid) {
        // It may have ended by itself.
        let _ = kill_process(pid, Signal::KILL);
    }
}

/// Whether a process has this folder as its root. The folder's name is unique.
fn lives_in(pid: i32, rootfs: &Path) -> bool {
    let (Some(work), Some(name)) = (rootfs.parent().and_then(Path::file_name), rootfs.file_name()) else {
        return false;
    };
    let root = format!("/{}/{} / ", work.to_string_lossy(), name.to_string_lossy());
    fs::read_to_string(format!("/proc/{pid}/mountinfo")).is_ok_and(|mounts| mounts.contains(&root))
}

/// Ends whatever still runs in a root filesystem, whoever started it.
pub(super) fn kill_inhabitants(rootfs: &Path) -> Result<()> {
    let began = Instant::now();
    loop {
        let Ok(processes) = fs::read_dir("/proc") else { return Ok(()) };
        let pids = processes.filter_map(|entry| entry.ok()?.file_name().to_str()?.parse::<i32>().ok());
        let own = i32::try_from(std::process::id()).unwrap_or(0);
        let inhabitants: Vec<i32> = pids.filter(|pid| *pid != own && lives_in(*pid, rootfs)).collect();
        if inhabitants.is_empty() {
            return Ok(());
        }
        inhabitants.into_iter().for_each(kill);
        if began.elapsed() > Duration::from_secs(10) {
            let message = format!("processes in {} do not end", rootfs.display());
            return Err(Error::provider(message).retryable());
        }
        std::thread::sleep(Duration::from_millis(10));
    }
}

fn write_private(path: &Path, bytes: &[u8]) -> std::io::Result<()> {
    use std::os::unix::fs::OpenOptionsExt;
    let mut file = fs::OpenOptions::new().write(true).create_new(true).mode(0o600).open(path)?;
    std::io::Write::write_all(&mut file, bytes)
}

/// How much of what a runtime says at its end is kept.
const LAST_WORDS: usize = 4096;

/// Moves a command's streams until it has ended and all its output is delivered. The end of its error output is kept
/// in `last_words` too.
async fn streamed(
    child: &mut Child,
    command: Command<'_>,
    last_words: &mut Vec<u8>,
) -> std::io::Result<ExitStatus> {
    let (stdin, stdout, stderr) = (child.stdin.take(), child.stdout.take(), child.stderr.take());
    let output = async {
        let stdout = pump(stdout, command.stdout, None);
        tokio::try_join!(stdout, pump(stderr, command.stderr, Some(last_words)))?;
        child.wait().await
    };
    // A command need not read its input: once it has ended, what is left of that is dropped.
    let status = tokio::select! {
        status = output => status?,
        never = feed(command.stdin, stdin) => match never {},
    };
    let signal = std::os::unix::process::ExitStatusExt::signal(&status);
    Ok(signal.map_or_else(|| ExitStatus::Code(status.code().unwrap_or(-1)), ExitStatus::Signal))
}

async fn pump(
    from: Option<impl AsyncRead + Unpin>,
    mut to: Option<&mut (dyn AsyncWrite + Send + Unpin)>,
    mut kept: Option<&mut Vec<u8>>,
) -> std::io::Result<()> {
    let Some(mut from) = from else { return Ok(()) };
    let mut piece = vec![0; 64 * 1024];
    loop {
        let read = from.read(&mut piece).await?;
        if read == 0 {
            break;
        }
        if let Some(kept) = &mut kept {
            kept.extend_from_slice(&piece[..read]);
            // One byte more tells that there was more.
            let over = kept.len().saturating_sub(LAST_WORDS + 1);
            kept.drain(..over);
        }
        if let Some(to) = &mut to {
            to.write_all(&piece[..read]).await?;
        }
    }
    match to {
        Some(to) => to.flush().await,
        None => Ok(()),
    }
}

async fn feed(
    from: Option<&mut (dyn AsyncRead + Send + Unpin)>,
    to: Option<ChildStdin>,
) -> std::convert::Infallible {
    if let (Some(from), Some(mut to)) = (from, to) {
        let mut piece = vec![0; 64 * 1024];
        while let Ok(read @ 1..) = from.read(&mut piece).await {
            if to.write_all(&piece[..read]).await.is_err() {
                break;
            }
        }
    }
    std::future::pending().await
}
