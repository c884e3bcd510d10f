//! What the tests share: the guest's disks, machines of it, builds, and what must not be left of them.

use std::hash::{DefaultHasher, Hash, Hasher};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::Arc;
use std::time::{Duration, Instant};

use packer_builders::Qemu;
use packer_core::communicator::CommunicatorConfig;
use packer_core::testing::{Recorder, require, skip};
use packer_core::{
    Artifact, Build, Context, Engine, Error, Host, Ledger, Machine, MemoryLedger, Pipeline, Provisioner,
    Report, Result, StepInputs, Value, async_trait,
};
use tokio::sync::{Semaphore, SemaphorePermit};

/// How long anything may take that a test waits for.
const LIMIT: Duration = Duration::from_secs(120);

/// The program that is the machine.
pub(crate) const QEMU: &str = "qemu-system-x86_64";

/// What kind of machine the disk makes.
#[derive(Clone, Copy)]
pub(crate) enum Guest {
    /// It powers down when its power button is pressed.
    Listens,
    /// It does not notice that.
    Deaf,
}

/// The disk of a guest, made by `guest.sh` where it is not there; `None` where something is missing for it, which is then said.
pub(crate) fn disk(guest: Guest) -> Option<PathBuf> {
    const NEEDED: [&str; 13] = [
        QEMU,
        "qemu-img",
        "apt-get",
        "bash",
        "cpio",
        "debugfs",
        "mcopy",
        "mke2fs",
        "mkfs.vfat",
        "openssl",
        "scp",
        "sfdisk",
        "swtpm",
    ];
    if NEEDED.iter().any(|name| require(name).is_none()) {
        return None;
    }
    let script = include_str!("guest.sh");
    let mut hash = DefaultHasher::new();
    script.hash(&mut hash);
    let folder = Path::new(env!("CARGO_TARGET_TMPDIR")).join(format!("qemu-guest-{:x}", hash.finish()));
    std::fs::create_dir_all(&folder).unwrap();
    // Whoever comes meanwhile waits.
    let lock = std::fs::File::create(folder.join("lock")).unwrap();
    lock.lock().unwrap();
    let [deaf, listens] = ["deaf.qcow2", "listens.qcow2"].map(|name| folder.join(name));
    if !deaf.exists() || !listens.exists() {
        let made = Command::new("bash")
            .args(["-c", script, "guest.sh"])
            .arg(&folder)
            .stdin(Stdio::null())
            .output()
            .unwrap();
        if !made.status.success() {
            let words = String::from_utf8_lossy(&made.stderr);
            skip(&format!("Debian's packages for a guest: {}", words.lines().last().unwrap_or_default()));
            return None;
        }
    }
    Some(match guest {
        Guest::Listens => listens,
        Guest::Deaf => deaf,
    })
}

/// A folder of its own for a test. Its name is short: below it are sockets, whose paths have 107 bytes.
pub(crate) fn folder() -> tempfile::TempDir {
    tempfile::Builder::new().prefix("vm-").tempdir().unwrap()
}

/// A test's turn: few guests run at once, on however many processors.
pub(crate) async fn turn() -> SemaphorePermit<'static> {
    static TURNS: Semaphore = Semaphore::const_new(2);
    TURNS.acquire().await.unwrap()
}

/// What the process has, and temporary files in a folder of the test's.
pub(crate) fn host(folder: &Path) -> Host {
    let mut host = Host::new();
    host.temp_dir = folder.join("tmp");
    host.cache_dir = folder.join("cache");
    host.env.insert("PATH".into(), std::env::var("PATH").unwrap_or_default() + ":/usr/sbin:/sbin");
    host
}

/// A machine of a disk, called `box`, whose image goes to `out` in a folder.
pub(crate) fn machine(disk: &Path, folder: &Path) -> Qemu {
    let mut vm = Qemu::from_disk(disk.display().to_string())
        .memory_mib(256)
        .accelerator("tcg")
        .output(folder.join("out").display().to_string())
        .ssh("root", "rootpw");
    vm.cpu_model = "max".to_owned();
    vm.vm_name = "box".to_owned();
    vm.boot.boot_wait = Duration::from_millis(1).into();
    vm
}

/// The same, which nobody enters: it runs until its program ends.
pub(crate) fn closed(disk: &Path, folder: &Path) -> Qemu {
    let mut vm = machine(disk, folder).communicator(CommunicatorConfig::none());
    vm.shutdown_timeout = LIMIT.into();
    vm
}

/// Runs a command in the machine.
pub(crate) struct Run(pub &'static str);

#[async_trait]
impl Provisioner for Run {
    async fn provision(&self, cx: &Context, machine: &dyn Machine) -> Result<()> {
        use packer_core::CommunicatorExt;
        match machine.communicator().run(cx, self.0).await? {
            status if status.success() => Ok(()),
            status => Err(Error::guest(format!("{:?} ended with {}", self.0, status.code()))),
        }
    }

    fn runs_commands(&self) -> bool {
        true
    }

    fn inputs(&self) -> StepInputs {
        StepInputs::Files(Vec::new())
    }

    fn config(&self) -> Option<Value> {
        Some(Value::object([("command", Value::text(self.0))]))
    }
}

/// What became of a build: its report and what was said.
#[derive(Debug)]
pub(crate) struct Done {
    pub report: Report,
    pub recorder: Recorder,
}

impl Done {
    /// The artifact of a build that succeeded.
    pub(crate) fn artifact(&self) -> &Artifact {
        let build = &self.report.builds[0];
        assert!(self.report.succeeded(), "{:?}\n{}", build.error, self.recorder.lines().join("\n"));
        &build.artifacts[0]
    }

    /// Why a build failed.
    pub(crate) fn error(&self) -> &Error {
        self.report.builds[0].error.as_ref().unwrap_or_else(|| panic!("{}", self.recorder.lines().join("\n")))
    }

    /// Whether a line was said that holds these words.
    pub(crate) fn said(&self, words: &str) -> bool {
        self.recorder.lines().iter().any(|line| line.contains(words))
    }
}

/// Builds, and checks that nothing is left that the build needed only itself.
pub(crate) async fn build(folder: &Path, vm: Qemu, step: Option<Run>) -> Done {
    build_on(host(folder), folder, vm, step).await
}

pub(crate) async fn build_on(host: Host, folder: &Path, vm: Qemu, step: Option<Run>) -> Done {
    let build = step.into_iter().fold(Build::new("a", vm), Build::provision);
    build_by(Engine::new().host(host), folder, build).await
}

pub(crate) async fn build_by(engine: Engine, folder: &Path, build: Build) -> Done {
    let (recorder, ledger) = (Recorder::new(), Arc::new(MemoryLedger::new()));
    let engine = engine.events(recorder.clone()).ledger(ledger.clone());
    let report = tokio::time::timeout(LIMIT * 2, engine.run(Pipeline::of([build]))).await;
    let report = report.unwrap_or_else(|_| panic!("too slow: {}", recorder.lines().join("\n"))).unwrap();
    assert!(report.builds[0].left.is_empty(), "{:?}", report.builds[0].left);
    assert!(ledger.outstanding().is_empty(), "{:?}", ledger.outstanding());
    nothing_left(folder);
    if !report.succeeded() {
        assert!(!folder.join("out").exists(), "the output folder stays: {:?}", recorder.lines());
    }
    Done { report, recorder }
}

/// Checks that no program runs that knows of this folder, and that there are no temporary files.
pub(crate) fn nothing_left(folder: &Path) {
    let left = processes("", folder);
    assert!(left.is_empty(), "{left:?}");
    let left: Vec<_> = std::fs::read_dir(folder.join("tmp")).into_iter().flatten().collect();
    assert!(left.is_empty(), "temporary files: {left:?}");
    let socket = folder.join("out/box.monitor");
    assert!(!socket.exists(), "{} stays", socket.display());
}

/// The programs of this name whose arguments name something in a folder.
pub(crate) fn processes(name: &str, folder: &Path) -> Vec<u32> {
    let folder = format!("{}/", folder.display());
    let numbers = std::fs::read_dir("/proc")
        .unwrap()
        .filter_map(|entry| entry.unwrap().file_name().to_str().and_then(|name| name.parse::<u32>().ok()));
    let is_one = |number: &u32| {
        let words = std::fs::read(format!("/proc/{number}/cmdline")).unwrap_or_default();
        let words = String::from_utf8_lossy(&words).into_owned();
        let program = words.split('\0').next().unwrap_or_default();
        *number != std::process::id() && program.contains(name) && words.contains(&folder)
    };
    numbers.filter(is_one).collect()
}

/// Waits until something is there, and gives it.
pub(crate) async fn until<T>(what: &str, look: impl Fn() -> Option<T>) -> T {
    let began = Instant::now();
    loop {
        if let Some(found) = look() {
            return found;
        }
        assert!(began.elapsed() < LIMIT, "waited in vain: {what}");
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}

/// Does something to a build that runs; it must not end before that is done.
pub(crate) async fn during<T: std::fmt::Debug, U>(
    build: impl Future<Output = T>,
    work: impl Future<Output = U>,
) -> (T, U) {
    let mut build = Box::pin(build);
    let done = tokio::select! {
        biased;
        done = work => done,
        ended = &mut build => panic!("the build has ended too early: {ended:#?}"),
    };
    (build.await, done)
}

/// Waits until the machine of a folder runs; the number of its program.
pub(crate) async fn running(folder: &Path) -> u32 {
    // The short run that asks for the version names no folder.
    until("QEMU runs", || processes(QEMU, folder).first().copied()).await
}

/// Sends a signal to one program.
pub(crate) fn send(signal: rustix::process::Signal, number: u32) {
    let number = rustix::process::Pid::from_raw(i32::try_from(number).unwrap()).unwrap();
    rustix::process::kill_process(number, signal).unwrap();
}

/// A file of the guest's disk, read without starting it.
pub(crate) fn file_in(image: &Path, path: &str) -> String {
    let folder = folder();
    let raw = folder.path().join("raw");
    output(Command::new("qemu-img").args(["convert", "-O", "raw"]).args([image, &raw]));
    // debugfs knows no partitions.
    let content = std::fs::read(&raw).unwrap();
    std::fs::write(&raw, &content[33 << 20..]).unwrap();
    let debugfs = require("debugfs").unwrap();
    output(Command::new(debugfs).args(["-R", &format!("cat {path}")]).arg(&raw))
}

/// Runs a program that has to succeed; what it prints.
pub(crate) fn output(command: &mut Command) -> String {
    let done = command.stdin(Stdio::null()).output().unwrap();
    assert!(done.status.success(), "{command:?}: {}", String::from_utf8_lossy(&done.stderr));
    String::from_utf8(done.stdout).unwrap().trim().to_owned()
}
