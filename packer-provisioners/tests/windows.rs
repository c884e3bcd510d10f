//! The provisioners for Windows over WinRM, to a server that stands in for Windows, also one that goes away and comes back.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    reason = "tests stop at the first surprise"
)]

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use packer_core::testing::Bench;
use packer_core::testing::winrm::{Manner, Reply, WinRmServer};
use packer_core::{
    Artifact, Communicator, Context, Error, Facts, Fault, Machine, Provisioner, Result, Target, async_trait,
};
use packer_provisioners::{PowerShell, WindowsRestart, WindowsShell};

/// A machine that somebody else runs.
struct Entered {
    communicator: Arc<dyn Communicator>,
    facts: Facts,
}

impl Entered {
    async fn by(server: &WinRmServer, bench: &Bench) -> Self {
        let config = server.config();
        let communicator = config.connect(bench.context(), &Target::default()).await.unwrap();
        Self { communicator, facts: config.facts(&Target::default()) }
    }
}

#[async_trait]
impl Machine for Entered {
    fn communicator(&self) -> Arc<dyn Communicator> {
        self.communicator.clone()
    }

    fn facts(&self) -> &Facts {
        &self.facts
    }

    async fn capture(&self, _: &Context) -> Result<Artifact> {
        Err(Error::user("this machine makes no artifacts"))
    }
}

fn context(bench: &Bench, machine: &Entered) -> Context {
    bench.context_on(machine.facts.clone())
}

/// What was shown, without how the machine was entered.
fn lines(bench: &Bench) -> Vec<String> {
    bench.recorder().lines().into_iter().skip(4).collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_batch_file_runs_and_is_removed() {
    let bench = Bench::new();
    let server = WinRmServer::start(|_, _| Reply::prints("hello\r\n")).await;
    let machine = Entered::by(&server, &bench).await;
    let step = WindowsShell::inline(["echo hello"]).env("A", "say \"hi\"");
    step.provision(&context(&bench, &machine), &machine).await.unwrap();
    assert_eq!(
        server.log(),
        ["set \"A=say \"hi\"\" && set \"PACKER_BUILDER_TYPE=test\" && set \"PACKER_BUILD_NAME=bench\" && \
          \"c:/Windows/Temp/script.bat\""]
    );
    assert!(server.files().is_empty() && bench.outstanding().is_empty(), "{:?}", server.files());
    assert_eq!(lines(&bench).last().unwrap(), "hello");
}

/// Machines say codes without a sign, and templates have them from there.
#[tokio::test(flavor = "multi_thread")]
async fn a_code_of_the_upper_half_may_be_allowed() {
    let bench = Bench::new();
    let server = WinRmServer::start(|_, _| Reply::code(-1)).await;
    let machine = Entered::by(&server, &bench).await;
    let mut step = WindowsShell::inline(["exit -1"]);
    let error = step.provision(&context(&bench, &machine), &machine).await.unwrap_err();
    assert!(error.message().contains("exit status: 4294967295."), "{error}");
    step = step.valid_exit_codes([0_i64, 4_294_967_295]);
    step.provision(&context(&bench, &machine), &machine).await.unwrap();
    let json = serde_json::json!({ "inline": ["x"], "valid_exit_codes": [4_294_967_295_u32] });
    assert!(serde_json::from_value::<WindowsShell>(json).is_ok());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_script_runs_between_its_variables_and_its_removal() {
    let bench = Bench::new();
    let server = WinRmServer::start(|_, _| Reply::code(0)).await;
    let machine = Entered::by(&server, &bench).await;
    let step = PowerShell::inline(["Write-Output 'x'"]).env("A", "$x");
    step.provision(&context(&bench, &machine), &machine).await.unwrap();
    let log = server.log();
    assert_eq!(log.len(), 2, "{log:?}");
    assert!(log[0].starts_with("powershell -executionpolicy bypass -file c:/Windows/Temp/script-"));
    assert!(log[1].starts_with("powershell -executionpolicy bypass -file c:/Windows/Temp/packer-cleanup-"));
    assert!(server.files().is_empty() && bench.outstanding().is_empty());
}

#[tokio::test(flavor = "multi_thread")]
async fn what_failed_or_was_cut_off_leaves_nothing_behind() {
    let bench = Bench::new();
    let server = WinRmServer::start(|text, _| match text.contains("script-") || text.contains("elevated") {
        true => Reply::code(7),
        false => Reply::forever(),
    })
    .await;
    let machine = Entered::by(&server, &bench).await;
    let cx = context(&bench, &machine);
    let step = PowerShell::inline(["exit 7"]).elevated("Administrator", "Passw0rd!x");
    let error = step.provision(&cx, &machine).await.unwrap_err();
    assert_eq!(error.message(), "Script exited with non-zero exit status: 7. Allowed exit codes are: [0]");
    assert_eq!(error.fault(), Fault::Guest);
    assert!(server.files().is_empty() && bench.outstanding().is_empty(), "{:?}", server.files());
    assert!(!lines(&bench).join("\n").contains("Passw0rd!x"));

    let step = WindowsShell::inline(["pause"]);
    let late = tokio::time::timeout(Duration::from_secs(1), step.provision(&cx, &machine)).await;
    assert!(late.is_err());
    let left = bench.outstanding();
    assert_eq!(left.iter().map(|r| r.name.as_str()).collect::<Vec<_>>(), ["c:/Windows/Temp/script.bat"]);
    step.clean(&cx, &machine, &left[0]).await.unwrap();
    assert!(server.files().is_empty());
}

/// The script that runs a command as another user holds a password: it goes, whatever happens and is asked for.
#[tokio::test(flavor = "multi_thread")]
async fn the_password_of_another_user_does_not_stay() {
    const WORD: &str = "Passw0rd!x";
    let bench = Bench::new();
    let server = WinRmServer::start(|text, _| match text.contains("elevated") {
        true => Reply { stderr: format!("wrong: {WORD}\r\n").into(), ..Reply::forever() },
        false => Reply::code(0),
    })
    .await;
    let machine = Entered::by(&server, &bench).await;
    let cx = context(&bench, &machine);
    let mut step =
        PowerShell::inline(["Get-Date"]).elevated("Administrator", WORD).env("TOKEN", "t0ken-of-mine");
    step.skip_clean = true;
    let holds = || {
        let files = server.files();
        files.values().filter(|content| String::from_utf8_lossy(content).contains(WORD)).count()
    };
    let work = step.provision(&cx, &machine);
    let stop = async {
        let end = Instant::now() + Duration::from_secs(10);
        while server.running() == 0 || server.log().is_empty() {
            assert!(Instant::now() < end);
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
        assert_eq!(holds(), 1);
        tokio::time::sleep(Duration::from_millis(300)).await;
        bench.cancel();
    };
    let (done, ()) = tokio::join!(work, stop);
    assert!(done.unwrap_err().is_cancelled());
    let left = bench.outstanding();
    assert_eq!(left.len(), 1, "{left:?}");
    assert!(!format!("{left:?} {step:?}").contains(WORD));
    // The engine cleans up in a context of its own.
    let later = Bench::new();
    step.clean(&context(&later, &machine), &machine, &left[0]).await.unwrap();
    assert_eq!(holds(), 0, "{:?}", server.files().keys());
    let shown = lines(&bench).join("\n");
    assert!(shown.contains("wrong: <sensitive>") && !shown.contains(WORD), "{shown}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_connection_that_breaks_is_tried_again_or_allowed() {
    let bench = Bench::new();
    let tries = Arc::new(AtomicUsize::new(0));
    let counted = tries.clone();
    let server = WinRmServer::start(move |_, _| match counted.fetch_add(1, Ordering::Relaxed) {
        0 => Reply::hangs_up(),
        _ => Reply::prints("second\r\n"),
    })
    .await;
    let machine = Entered::by(&server, &bench).await;
    let cx = context(&bench, &machine);
    WindowsShell::inline(["x"]).provision(&cx, &machine).await.unwrap();
    assert_eq!((tries.swap(0, Ordering::Relaxed), lines(&bench).last().unwrap().as_str()), (2, "second"));
    let step = WindowsShell::inline(["x"]).valid_exit_codes([0, 16001]);
    step.provision(&cx, &machine).await.unwrap();
    assert_eq!(tries.swap(0, Ordering::Relaxed), 1);
    let mut step = WindowsShell::inline(["x"]);
    step.start_retry_timeout = Duration::from_nanos(1).into();
    let error = step.provision(&cx, &machine).await.unwrap_err();
    assert!(error.message().contains("use the provisioner windows-restart"), "{error}");
}

/// Answers as a machine that is restarted does.
fn restarting(text: &str, _: &[u8]) -> Reply {
    match text {
        _ if text.contains("packer restart test") => Reply::code(1),
        _ if text.contains("restarted.") => Reply::prints("WIN restarted.\r\n"),
        _ if text.contains("Test-Path") => Reply::prints("False\r\n"),
        _ => Reply::code(0),
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_machine_is_restarted_and_waited_for() {
    let bench = Bench::new();
    let server = WinRmServer::start(restarting).await;
    let machine = Entered::by(&server, &bench).await;
    let step = WindowsRestart::new().check_registry();
    step.provision(&context(&bench, &machine), &machine).await.unwrap();
    assert_eq!(
        lines(&bench),
        [
            "Restarting Machine",
            "Waiting for machine to restart...",
            "WIN restarted.",
            "False",
            "False",
            "False",
            "Machine successfully restarted, moving on",
        ]
    );
    assert_eq!(server.log().len(), 6, "{:?}", server.log());
}

/// Between the answer of `shutdown` and its end a machine answers as before; when it is up its services come up.
#[tokio::test(flavor = "multi_thread")]
async fn a_machine_counts_as_back_when_it_was_booted_since_and_its_services_are_up() {
    let answers = |own_command: bool| {
        let asked = Arc::new(AtomicUsize::new(0));
        let machine = move |text: &str, stdin: &[u8]| match text.contains("restarted.") {
            true => Reply::prints(match asked.fetch_add(1, Ordering::Relaxed) {
                0 => "WIN restarted.\r\npacker-up 90000000 0\r\n",
                1 => "WIN restarted.\r\npacker-up 900 3\r\n",
                _ => "WIN restarted.\r\npacker-up 1200 0\r\n",
            }),
            false => restarting(text, stdin),
        };
        async move {
            let bench = Bench::new();
            let server = WinRmServer::start(machine).await;
            let machine = Entered::by(&server, &bench).await;
            let mut step = WindowsRestart::new();
            if own_command {
                step.restart_command = "maybe".into();
            }
            step.provision(&context(&bench, &machine), &machine).await.unwrap();
            assert_eq!(lines(&bench).iter().filter(|line| *line == "WIN restarted.").count(), 1);
            assert!(!lines(&bench).join("\n").contains("packer-up"));
            server.log().iter().filter(|text| text.contains("restarted.")).count()
        }
    };
    let (restarted, left_as_it_is) = tokio::join!(answers(false), answers(true));
    // A command of one's own may have found that no restart is due.
    assert_eq!((restarted, left_as_it_is), (3, 1));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_machine_that_does_not_come_back_is_given_up_in_time() {
    let says = Manner::Says("HTTP/1.1 500 no\r\nContent-Length: 0\r\n\r\n");
    let mut all = tokio::task::JoinSet::new();
    for manner in [Manner::Silent, Manner::HangsUp, says] {
        all.spawn(async move {
            let bench = Bench::new();
            let server = Arc::new(WinRmServer::start(restarting).await);
            let machine = Entered::by(&server, &bench).await;
            let broken = server.clone();
            let going = tokio::spawn(async move {
                while broken.log().is_empty() {
                    tokio::time::sleep(Duration::from_millis(5)).await;
                }
                broken.behaves(manner);
            });
            let begun = Instant::now();
            let step = WindowsRestart::new().timeout("7s".parse().unwrap());
            let error = step.provision(&context(&bench, &machine), &machine).await.unwrap_err();
            assert!(
                error.message().starts_with("Timeout waiting for machine to restart."),
                "{manner:?}: {error}"
            );
            assert!(error.message().contains("restart_timeout"), "{manner:?}: {error}");
            assert!(begun.elapsed() < Duration::from_secs(10), "{manner:?}: {:?}", begun.elapsed());
            going.await.unwrap();
        });
    }
    all.join_all().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_restart_that_is_refused_is_an_error() {
    let bench = Bench::new();
    let server = WinRmServer::start(|_, _| Reply::fails("Access is denied.(5)\r\n", 5)).await;
    let machine = Entered::by(&server, &bench).await;
    let error = WindowsRestart::new().provision(&context(&bench, &machine), &machine).await.unwrap_err();
    assert_eq!(error.message(), "Restart script exited with non-zero exit status: 5");
}
