//! Shell steps whose script comes with the command that runs it.
#![cfg(unix)]
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    reason = "tests stop at the first surprise"
)]

use std::sync::Arc;
use std::time::Duration;

use packer_core::testing::{Answer, Bench, EnteredMachine, LocalMachine, ScriptedMachine};
use packer_core::{Provisioner, Result};
use packer_provisioners::Shell;

/// A machine that is a folder of this computer, whose commands are counted.
struct Place {
    bench: Bench,
    machine: ScriptedMachine,
}

impl Place {
    fn new() -> Self {
        let bench = Bench::new();
        std::fs::create_dir(bench.folder().join("scripts")).unwrap();
        let machine = ScriptedMachine::before(LocalMachine::new(bench.folder()));
        Self { bench, machine }
    }

    fn on(mut self, part: &str, answer: Answer) -> Self {
        self.machine = self.machine.on(part, answer);
        self
    }

    fn shell<'a>(&self, lines: impl IntoIterator<Item = &'a str>) -> Shell {
        let mut shell = Shell::inline(lines);
        shell.remote_folder = self.bench.folder().join("scripts").display().to_string();
        shell.start_retry_timeout = Duration::from_millis(1).into();
        shell
    }

    /// The same whose users log in to this shell; `None` where this computer does not have it.
    fn with_shell(shell: &str) -> Option<Self> {
        let mut words = shell.split(' ').map(str::to_owned);
        let program = words.next()?;
        let found = std::process::Command::new(&program).args(["-c", "true"]).output();
        if found.is_err() {
            packer_core::testing::skip(&program);
            return None;
        }
        let mut place = Self::new();
        let local = LocalMachine::new(place.bench.folder()).shell([program].into_iter().chain(words));
        place.machine = ScriptedMachine::before(local);
        Some(place)
    }

    async fn run(&self, shell: &Shell) -> Result<()> {
        let machine = EnteredMachine::new(Arc::new(self.machine.clone()));
        shell.provision(self.bench.context(), &machine).await
    }

    /// What was said, without the line that names the script.
    fn lines(&self) -> Vec<String> {
        let lines = self.bench.recorder().lines();
        lines.into_iter().filter(|line| !line.starts_with("Provisioning with")).collect()
    }

    fn scripts(&self) -> Vec<String> {
        let found = std::fs::read_dir(self.bench.folder().join("scripts")).unwrap();
        found.map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect()
    }
}

#[tokio::test]
async fn a_script_is_one_command_and_sees_what_it_always_saw() {
    let place = Place::new();
    let show =
        "dirname $0; basename $0 | tr -d 0-9; stat -c %a $0; cat; echo \"[$A]\"; echo wrong >&2; printf end";
    let shell = place.shell([show]).env("A", "it's\n a \\ $HOME `x`");
    place.run(&shell).await.unwrap();
    let folder = place.bench.folder().join("scripts").display().to_string();
    let (wrong, lines): (Vec<_>, Vec<_>) = place.lines().into_iter().partition(|line| line == "wrong");
    assert_eq!(wrong.len(), 1);
    assert_eq!(lines, [&folder, "script_.sh", "755", "[it's", " a \\ $HOME `x`]", "end"]);
    assert_eq!(place.machine.calls().len(), 1, "{:?}", place.machine.calls());
    assert_eq!(place.scripts(), [""; 0]);
}

#[tokio::test]
async fn a_failing_script_is_one_command_too_and_keeps_its_code() {
    let place = Place::new();
    let mut shell = place.shell(["exit 7"]);
    let error = place.run(&shell).await.unwrap_err();
    assert!(error.to_string().contains("exit status: 7"), "{error}");
    shell.valid_exit_codes = vec![7];
    place.run(&shell).await.unwrap();
    let error = place.run(&place.shell(["kill -9 $$"])).await.unwrap_err();
    assert!(error.to_string().contains("137"), "{error}");
    assert_eq!(place.machine.calls().len(), 3);
    assert_eq!(place.scripts(), [""; 0]);
}

#[tokio::test]
async fn a_script_that_ends_what_runs_it_leaves_nothing_either() {
    let place = Place::new();
    let mut shell = place.shell(["kill -9 $PPID"]).env("A", "secret");
    shell.use_env_var_file = true;
    let error = place.run(&shell).await.unwrap_err();
    assert!(error.to_string().contains("137"), "{error}");
    assert_eq!(place.scripts(), [""; 0]);
    shell.valid_exit_codes = vec![137];
    place.run(&shell).await.unwrap();
    assert_eq!(place.scripts(), [""; 0]);
    assert!(place.bench.outstanding().is_empty());
}

#[tokio::test]
async fn what_a_script_prints_last_is_shown_as_it_is() {
    let place = Place::new();
    place.run(&place.shell(["printf half >&2"])).await.unwrap();
    place.run(&place.shell(["echo line >&2; echo >&2"])).await.unwrap();
    assert_eq!(place.lines(), ["half", "line", ""]);
}

#[tokio::test]
async fn variables_may_come_in_a_file() {
    let place = Place::new();
    let mut shell = place.shell(["echo \"$A\"; stat -c %a $(dirname $0)/varfile_*"]).env("A", "it's");
    shell.use_env_var_file = true;
    place.run(&shell).await.unwrap();
    assert_eq!(place.lines(), ["it's", "600"]);
    assert_eq!((place.machine.calls().len(), place.scripts().len()), (1, 0));
    shell.skip_clean = true;
    place.run(&shell).await.unwrap();
    assert_eq!((place.machine.calls().len(), place.scripts().len()), (2, 2));
}

#[tokio::test]
async fn a_script_that_removes_itself_or_its_folder_leaves_nothing() {
    let place = Place::new();
    place.run(&place.shell(["rm -r \"$(dirname \"$0\")\""])).await.unwrap();
    assert_eq!(place.machine.calls().len(), 1);
}

#[tokio::test]
async fn what_cannot_be_brought_is_said_with_the_machines_words() {
    let place = Place::new();
    let mut shell = place.shell(["echo never"]);
    shell.remote_folder = "/no/such/folder".into();
    let error = place.run(&shell).await.unwrap_err().to_string();
    assert!(error.starts_with("Error uploading script: upload /no/such/folder/script_"), "{error}");
    assert!(error.to_lowercase().contains("no such file") || error.contains("nonexistent"), "{error}");
    assert_eq!(place.lines(), [""; 0]);
}

#[tokio::test]
async fn a_broken_connection_before_the_script_began_is_tried_again_and_after_it_is_not() {
    let place = Place::new().on("exec /bin/sh", Answer::disconnects());
    let mut shell = place.shell(["echo ran"]);
    shell.start_retry_timeout = Duration::from_secs(60).into();
    place.run(&shell).await.unwrap();
    assert_eq!((place.lines(), place.machine.calls().len()), (vec!["ran".to_owned()], 2));
}

#[tokio::test]
async fn a_shell_that_does_not_know_this_way_gets_files() {
    let place = Place::new().on(
        "exec /bin/sh",
        Answer::code(1).stderr("'/bin/sh' is not recognized as an internal or external command\n"),
    );
    place.run(&place.shell(["echo ran"])).await.unwrap();
    assert_eq!(place.lines(), ["ran"]);
    let calls = place.machine.calls();
    assert!(calls.len() == 5 && calls[1].starts_with("upload "), "{calls:?}");
    assert_eq!(place.scripts(), [""; 0]);
}

#[tokio::test]
async fn commands_of_their_own_and_large_scripts_go_as_files() {
    let place = Place::new();
    let shell = place.shell(["echo ran"]).execute_command("sh -c '{{.Vars}} {{.Path}}'");
    place.run(&shell).await.unwrap();
    let large = format!(": {}", "x".repeat(1 << 20));
    place.run(&place.shell([large.as_str(), "echo large"])).await.unwrap();
    assert_eq!(place.lines(), ["ran", "large"]);
    let uploads = place.machine.calls().iter().filter(|call| call.starts_with("upload")).count();
    assert_eq!(uploads, 2);
}

#[tokio::test]
async fn whatever_shell_users_log_in_to() {
    for login in ["bash", "csh", "dash", "fish", "zsh", "busybox sh"] {
        let Some(place) = Place::with_shell(login) else { continue };
        let shell = place.shell(["echo \"$A\"", "exit 3"]).env("A", "it's `a` \\ !b {$C} ~");
        let error = place.run(&shell).await.unwrap_err().to_string();
        assert!(error.contains("exit status: 3"), "{login}: {error}");
        assert_eq!(place.lines(), ["it's `a` \\ !b {$C} ~"], "{login}");
        assert_eq!((place.machine.calls().len(), place.scripts().len()), (1, 0), "{login}");
    }
}

#[tokio::test]
async fn a_folder_whose_programs_must_not_run_will_do() {
    let place = Place::new();
    let folder = place.bench.folder().join("scripts").display().to_string();
    let run = |words: &[&str]| std::process::Command::new(words[0]).args(&words[1..]).status();
    if !run(&["mount", "-t", "tmpfs", "-o", "noexec", "none", &folder]).is_ok_and(|status| status.success()) {
        return packer_core::testing::skip("mount");
    }
    let mut shell = place.shell(["echo \"$A $0\" | cut -c -8", "exit 4"]).env("A", "it runs");
    let error = place.run(&shell).await.unwrap_err().to_string();
    shell.use_env_var_file = true;
    shell.valid_exit_codes = vec![4];
    let with_file = place.run(&shell).await;
    let (lines, left) = (place.lines(), place.scripts());
    run(&["umount", &folder]).unwrap();
    assert!(error.contains("exit status: 4"), "{error}");
    with_file.unwrap();
    assert_eq!((lines, left), (vec!["it runs".to_owned(); 2], vec![]));
}
