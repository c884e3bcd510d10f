//! A real OpenSSH server on a port of this computer.

use std::io::Write;
use std::net::{TcpListener, TcpStream};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use super::{TempFolder, require};
use crate::communicator::CommunicatorConfig;

/// An OpenSSH server that lets the user of this process in with the key [`Sshd::key`]. It ends with this value.
#[derive(Debug)]
pub struct Sshd {
    program: PathBuf,
    folder: TempFolder,
    port: u16,
    child: Option<Child>,
}

impl Sshd {
    /// Starts a server; `None` where there is no `sshd`, which is then said (see [`require`]).
    ///
    /// # Panics
    /// Where it does not start.
    pub fn start() -> Option<Self> {
        Self::with(&["Subsystem sftp internal-sftp"])
    }

    /// Starts a server with these lines in its configuration (without a `Subsystem` line it has no SFTP).
    pub fn with(lines: &[&str]) -> Option<Self> {
        let mut server = Self::prepare(lines)?;
        server.up();
        Some(server)
    }

    /// The same, not started yet. Commands see a `HOME` of the server's own, because what a developer's shell does
    /// when it starts can take long. [`up`](Self::up) starts it.
    pub fn prepare(lines: &[&str]) -> Option<Self> {
        let (program, keygen) = (require("sshd")?, require("ssh-keygen")?);
        let folder = TempFolder::new();
        let root = folder.path().display().to_string();
        for (kind, name) in [("ed25519", "host"), ("rsa", "host_rsa"), ("ed25519", "id")] {
            let file = format!("{root}/{name}");
            run(Command::new(&keygen).args(["-q", "-t", kind, "-N", "", "-C", "test", "-f", &file]));
        }
        std::fs::copy(format!("{root}/id.pub"), format!("{root}/authorized")).expect("the key is allowed in");
        let port = TcpListener::bind("127.0.0.1:0").and_then(|l| l.local_addr()).expect("a free port").port();
        let mut config = lines.join("\n");
        // What stands first counts.
        config.push_str(&format!(
            "\nPort {port}\nListenAddress 127.0.0.1\nHostKey {root}/host\nHostKey {root}/host_rsa\nPidFile {root}/pid\n\
             AuthorizedKeysFile {root}/authorized\nStrictModes no\nUsePAM no\nPermitRootLogin yes\n\
             MaxStartups 500:30:1000\nMaxSessions 200\nUseDNS no\nSetEnv HOME={root}\n"
        ));
        std::fs::write(format!("{root}/config"), config).expect("the server's configuration");
        Some(Self { program, folder, port, child: None })
    }

    /// Starts the server, or starts it again.
    pub fn up(&mut self) {
        self.down();
        // Where sshd starts as root it wants this folder; elsewhere it does without.
        let _ = std::fs::create_dir_all("/run/sshd");
        let log = std::fs::File::create(self.file("log")).expect("the server's log");
        let child = Command::new(&self.program)
            .args(["-D", "-e", "-f"])
            .arg(self.file("config"))
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(log)
            .spawn();
        self.child = Some(child.expect("sshd starts"));
        let deadline = Instant::now() + Duration::from_secs(20);
        while TcpStream::connect(("127.0.0.1", self.port)).is_err() {
            let log = std::fs::read_to_string(self.file("log")).unwrap_or_default();
            assert!(Instant::now() < deadline, "sshd does not listen: {log}");
            std::thread::sleep(Duration::from_millis(20));
        }
    }

    /// Ends the server and all its connections.
    pub fn down(&mut self) {
        let Some(mut child) = self.child.take() else { return };
        // First nobody gets in any more: whoever loses a connection may come again at once.
        let sessions = descendants(child.id());
        let _ = child.kill();
        let _ = child.wait();
        signal_sessions(&sessions, Signal::Kill);
    }

    /// The port.
    pub fn port(&self) -> u16 {
        self.port
    }

    /// The private key that lets in.
    pub fn key(&self) -> PathBuf {
        self.file("id")
    }

    /// The server's public key of kind Ed25519, as one line.
    pub fn host_key(&self) -> String {
        std::fs::read_to_string(self.file("host.pub")).expect("the host key").trim().to_owned()
    }

    /// A file in the server's own folder: `authorized` has the keys that let in, `log` what the server said.
    pub fn file(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    /// An empty folder for a test's files.
    pub fn scratch(&self) -> PathBuf {
        let path = self.folder.path().join(format!("scratch-{}", uuid::Uuid::new_v4()));
        std::fs::create_dir_all(&path).expect("a folder");
        path
    }

    /// The user that can log in: the one who runs the test.
    pub fn user(&self) -> String {
        let output = Command::new("id").arg("-un").output().expect("id -un");
        String::from_utf8_lossy(&output.stdout).trim().to_owned()
    }

    /// What connects to this server with its key.
    pub fn config(&self) -> CommunicatorConfig {
        CommunicatorConfig::ssh(self.user())
            .host("127.0.0.1")
            .port(self.port)
            .key_file(self.key().display().to_string())
    }

    /// Kills the processes that serve the connections, as a crash would; the server goes on.
    pub fn kill_sessions(&self) -> usize {
        self.signal_all(Signal::Kill)
    }

    /// Stops the processes that serve the connections: they neither answer nor end, as if the line were cut.
    pub fn freeze_sessions(&self) -> usize {
        self.signal_all(Signal::Stop)
    }

    fn signal_all(&self, signal: Signal) -> usize {
        let processes = self.child.as_ref().map_or_else(Vec::new, |child| descendants(child.id()));
        signal_sessions(&processes, signal);
        processes.len()
    }
}

/// Sends a signal to those of the processes that serve connections.
fn signal_sessions(processes: &[u32], signal: Signal) {
    for process in processes {
        let name = std::fs::read_to_string(format!("/proc/{process}/comm")).unwrap_or_default();
        // The commands they run are left alone.
        if name.starts_with("sshd") {
            signal.send(*process);
        }
    }
}

impl Drop for Sshd {
    fn drop(&mut self) {
        self.down();
    }
}

#[derive(Clone, Copy)]
enum Signal {
    Kill,
    Stop,
}

impl Signal {
    fn send(self, process: u32) {
        let name = match self {
            Self::Kill => "-KILL",
            Self::Stop => "-STOP",
        };
        // A process that has ended meanwhile needs no signal.
        let _ = Command::new("kill").args([name, &process.to_string()]).stderr(Stdio::null()).status();
    }
}

/// An SSH agent that holds a key. It ends with this value.
#[derive(Debug)]
pub struct SshAgent {
    child: Child,
    folder: TempFolder,
}

impl SshAgent {
    /// Starts an agent with these keys; `None` where there is no `ssh-agent`, which is then said.
    ///
    /// # Panics
    /// Where it does not start, or refuses a key.
    pub fn start(keys: &[&Path]) -> Option<Self> {
        let (program, add) = (require("ssh-agent")?, require("ssh-add")?);
        let folder = TempFolder::new();
        let socket = folder.path().join("agent");
        let child = Command::new(program)
            .arg("-D")
            .arg("-a")
            .arg(&socket)
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .spawn()
            .expect("ssh-agent starts");
        let agent = Self { child, folder };
        let deadline = Instant::now() + Duration::from_secs(10);
        while !socket.exists() {
            assert!(Instant::now() < deadline, "ssh-agent does not listen");
            std::thread::sleep(Duration::from_millis(10));
        }
        for key in keys {
            run(Command::new(&add).arg("-q").arg(key).env("SSH_AUTH_SOCK", &socket));
        }
        Some(agent)
    }

    /// What `SSH_AUTH_SOCK` is to be.
    pub fn socket(&self) -> PathBuf {
        self.folder.path().join("agent")
    }
}

impl Drop for SshAgent {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// A user of this system with a password, for tests that run as root. Removed with this value.
#[derive(Debug)]
pub struct SystemUser {
    name: String,
    home: TempFolder,
}

impl SystemUser {
    /// Makes a user with a name of its own; `None` where only root may, which is then said.
    ///
    /// # Panics
    /// Where `useradd` fails.
    pub fn with_password(password: &str) -> Option<Self> {
        let (useradd, chpasswd) = (require("useradd")?, require("chpasswd")?);
        let id = Command::new("id").arg("-u").output().expect("id -u");
        if String::from_utf8_lossy(&id.stdout).trim() != "0" {
            super::skip("root, to make a user");
            return None;
        }
        let random = uuid::Uuid::new_v4().simple().to_string();
        let user = Self { name: format!("pkt{}", &random[..12]), home: TempFolder::new() };
        let home = user.home.path().display().to_string();
        run(Command::new(useradd).args(["-M", "-d", &home, "-s", "/bin/sh", &user.name]));
        run(Command::new("chown").args([&user.name, &home]));
        let mut child = Command::new(chpasswd).stdin(Stdio::piped()).spawn().expect("chpasswd starts");
        let mut stdin = child.stdin.take().expect("the input of chpasswd");
        writeln!(stdin, "{}:{password}", user.name).expect("chpasswd reads");
        drop(stdin);
        assert!(child.wait().expect("chpasswd ends").success(), "chpasswd failed");
        Some(user)
    }

    /// The name to log in with.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// The user's own folder.
    pub fn home(&self) -> &Path {
        self.home.path()
    }
}

impl Drop for SystemUser {
    fn drop(&mut self) {
        let _ = Command::new("userdel").args(["-f", &self.name]).stderr(Stdio::null()).status();
    }
}

fn run(command: &mut Command) {
    let output = command.output().unwrap_or_else(|e| panic!("{command:?}: {e}"));
    assert!(output.status.success(), "{command:?}: {}", String::from_utf8_lossy(&output.stderr));
}

/// The processes below a process.
fn descendants(of: u32) -> Vec<u32> {
    let mut parents: Vec<(u32, u32)> = Vec::new();
    for entry in std::fs::read_dir("/proc").into_iter().flatten().flatten() {
        let Some(process) = entry.file_name().to_str().and_then(|name| name.parse::<u32>().ok()) else {
            continue;
        };
        let stat = std::fs::read_to_string(entry.path().join("stat")).unwrap_or_default();
        // The name in parentheses may contain anything.
        let fields = stat.rsplit_once(") ").map_or("", |(_, fields)| fields);
        if let Some(parent) = fields.split(' ').nth(1).and_then(|field| field.parse().ok()) {
            parents.push((process, parent));
        }
    }
    let mut found = vec![of];
    let mut next = 0;
    while let Some(parent) = found.get(next).copied() {
        found.extend(parents.iter().filter(|(_, p)| *p == parent).map(|(process, _)| *process));
        next += 1;
    }
    found.remove(0);
    found
}
