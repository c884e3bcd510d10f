//! Programs of this computer, with their children.
#![cfg(target_os = "linux")]

use std::path::Path;
use std::time::{Duration, Instant};

use super::{Program, end};
use crate::communicator::ExitStatus;
use crate::context::Context;
use crate::engine::cleanup::{Owners, release_all};
use crate::ledger::Resource;
use crate::testing::Bench;

/// Writes its number into a file, then sleeps.
fn sleeper(file: &str) -> String {
    format!("sh -c 'echo $$ > {file}.new; mv {file}.new {file}; exec sleep 1000'")
}

fn shell(folder: &Path, script: impl Into<String>) -> Program {
    Program::new("/bin/sh").args(["-c".to_owned(), script.into()]).current_dir(folder)
}

fn runs(pid: i32) -> bool {
    let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
    stat.rsplit_once(')').is_some_and(|(_, rest)| !rest.starts_with(" Z"))
}

async fn until(what: &str, mut done: impl FnMut() -> bool) {
    let began = Instant::now();
    while !done() {
        assert!(began.elapsed() < Duration::from_secs(60), "{what}");
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
}

async fn pid(folder: &Path, name: &str) -> i32 {
    let file = folder.join(name);
    until(name, || file.exists()).await;
    std::fs::read_to_string(file).unwrap().trim().parse().unwrap()
}

async fn clean(cx: &Context) {
    assert!(release_all(cx, &Owners::default(), &[]).await.is_empty());
}

#[tokio::test]
async fn output_is_captured_or_refused() {
    let bench = Bench::new();
    let cx = bench.context();
    let program = shell(bench.folder(), "echo out $A; echo err >&2; pwd >&2; exit 3").env("A", "b");
    let captured = program.capture(cx, 1000).await.unwrap();
    assert_eq!(captured.status, ExitStatus::Code(3));
    assert_eq!(captured.stdout_text(), "out b");
    assert!(captured.stderr_text().starts_with("err\n/"), "{}", captured.stderr_text());
    let endless = Program::new("yes").capture(cx, 100_000).await.unwrap_err();
    assert_eq!(endless.message(), "yes prints more than 100000 bytes");
    let missing = Program::new("/no/such/program").show(cx).await.unwrap_err();
    assert!(missing.message().contains("/no/such/program"), "{missing}");
    clean(cx).await;
    assert!(bench.outstanding().is_empty());
}

#[tokio::test]
async fn what_is_dropped_ends_with_all_that_it_started() {
    let bench = Bench::new();
    let (cx, folder) = (bench.context(), bench.folder());
    let script = format!("setsid {} & {} & wait", sleeper("escaped"), sleeper("child"));
    let program = shell(folder, script);
    let (escaped, child) = tokio::select! {
        status = program.show(cx) => panic!("{status:?}"),
        pids = async { (pid(folder, "escaped").await, pid(folder, "child").await) } => pids,
    };
    until("the child of the group ends at once", || !runs(child)).await;
    let held = bench.outstanding();
    assert_eq!(held.len(), 1);
    assert!(held[0].is_local() && held[0].to_string().starts_with("process sh ("), "{}", held[0]);
    clean(cx).await;
    assert!(!runs(escaped), "cleanup ends what has left the group");
    assert!(bench.outstanding().is_empty());
}

#[tokio::test]
async fn a_question_ends_in_time_with_all_that_it_started() {
    let bench = Bench::new();
    let (cx, folder) = (bench.prepare_context(), bench.folder());
    let minute = Duration::from_secs(60);
    let began = Instant::now();
    let script = format!(
        "{} & setsid {} & while ! test -e kept || ! test -e escaped; do sleep 0.01; done; echo 2.14; echo x >&2; exit 3",
        sleeper("kept"),
        sleeper("escaped")
    );
    let said = shell(folder, script).ask(cx, 1000, minute).unwrap();
    assert_eq!((said.stdout_text().as_str(), said.stderr_text().as_str()), ("2.14", "x"));
    assert_eq!(said.status, ExitStatus::Code(3));
    for name in ["kept", "escaped"] {
        assert!(!runs(pid(folder, name).await), "{name}");
    }
    let hung = shell(folder, format!("setsid {} & trap '' TERM; {}", sleeper("away"), sleeper("hung")));
    let error = hung.ask(cx, 1000, Duration::from_secs(1)).unwrap_err();
    assert_eq!(error.message(), "/bin/sh did not end within 1 s");
    for name in ["away", "hung"] {
        assert!(!runs(pid(folder, name).await), "{name}");
    }
    let endless = Program::new("yes").ask(cx, 100_000, minute).unwrap_err();
    assert_eq!(endless.message(), "yes prints more than 100000 bytes");
    assert!(Program::new("/no/such/program").ask(cx, 1, minute).is_err());
    assert!(began.elapsed() < Duration::from_secs(20), "{:?}", began.elapsed());
}

#[tokio::test]
async fn a_long_lived_program_is_asked_to_end_and_then_killed() {
    let bench = Bench::new();
    let (cx, folder) = (bench.context(), bench.folder());
    let polite = shell(folder, format!("trap 'exit 7' TERM; {} & wait", sleeper("polite")));
    let process = polite.start(cx).unwrap();
    let child = pid(folder, "polite").await;
    assert_eq!(process.stop(Duration::from_secs(60)).await.unwrap(), ExitStatus::Code(7));
    assert!(!runs(child));
    let deaf = shell(folder, "trap '' TERM; echo $$ > n; mv n deaf; while :; do sleep 1; done");
    let process = deaf.start(cx).unwrap();
    let leader = pid(folder, "deaf").await;
    assert_eq!(process.stop(Duration::from_millis(20)).await.unwrap(), ExitStatus::Signal(9));
    assert!(!runs(leader));
    assert!(bench.outstanding().is_empty());

    let mut echo = shell(folder, "read line; echo \"$line\"").start_piped(cx).unwrap();
    use tokio::io::{AsyncReadExt, AsyncWriteExt};
    echo.stdin().unwrap().write_all(b"hello\n").await.unwrap();
    let mut said = String::new();
    echo.stdout().unwrap().read_to_string(&mut said).await.unwrap();
    assert_eq!((said.as_str(), echo.wait().await.unwrap()), ("hello\n", ExitStatus::Code(0)));
    drop(echo);
    clean(cx).await;
}

#[tokio::test]
async fn what_only_has_the_number_is_not_ended() {
    let bench = Bench::new();
    let (cx, folder) = (bench.context(), bench.folder());
    let process = shell(folder, format!("exec {}", sleeper("one"))).start(cx).unwrap();
    let leader = pid(folder, "one").await;
    let known = bench.outstanding().remove(0);
    // The same number and another start, or another boot of the computer: a later process has it.
    for (name, value) in [("started", 1.into()), ("boot", "another".into())] as [(&str, serde_json::Value); 2]
    {
        let mut details = known.details.clone();
        details[name] = value;
        end(&Resource::new(crate::ledger::PROCESS, "x").with_details(details)).unwrap();
        assert!(runs(leader), "{name}");
    }
    // Without its mark, as a program that has thrown its environment away: by its number and its start.
    end(&Resource::new(crate::ledger::PROCESS, "x").with_details(known.details)).unwrap();
    assert!(!runs(leader));
    drop(process);
    clean(cx).await;
}
