//! Provisioners in builds whose machine is a folder of this computer: what they do, say, and leave behind.
#![cfg(unix)]
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    reason = "tests stop at the first surprise"
)]

use std::path::Path;
use std::time::{Duration, Instant};

use packer_core::testing::{Bench, FakeBuilder, Recorder, TempFolder, provisioner};
use packer_core::{Build, Engine, Host, Pipeline, ProvisionStep, ProvisionerExt};
use packer_provisioners::{Breakpoint, FileProvisioner, LocalShell, Shell, ShellLocal, Sleep, Upload};

/// What a build told, and how it ended.
struct Ran {
    lines: Vec<String>,
    error: Option<String>,
    /// What is left in the folder for temporary files.
    left: Vec<String>,
}

/// Runs the steps in a build. In texts the folder is `TMP` and digits of random names are gone.
async fn run(folder: &TempFolder, steps: impl IntoIterator<Item = ProvisionStep>) -> Ran {
    let temp = folder.path().join("tmp");
    std::fs::create_dir_all(&temp).unwrap();
    let mut host = Host::new();
    host.temp_dir = temp.clone();
    let build = Build::new("b", FakeBuilder::new(folder.path()));
    let build = steps.into_iter().fold(build, Build::provision);
    let recorder = Recorder::new();
    let engine = Engine::new().events(recorder.clone()).host(host);
    let report = engine.run(Pipeline::of([build])).await.unwrap();
    let root = folder.path().display().to_string();
    let plain = |text: String| {
        let text = text.replace(&temp.display().to_string(), "TMP").replace(&root, "DIR");
        let random = ["packer-shell", "script_", "varfile_", "pkr-file-content"];
        random.iter().fold(text, |text, prefix| {
            let mut parts = text.split(prefix);
            let first = parts.next().unwrap_or_default().to_owned();
            parts
                .fold(first, |all, part| all + prefix + part.trim_start_matches(|c: char| c.is_ascii_digit()))
        })
    };
    let left = std::fs::read_dir(&temp).unwrap().map(|e| e.unwrap().file_name().into_string().unwrap());
    // What the engine adds about failures is not these components' words.
    let engine =
        |line: &String| line.starts_with("Provisioning step had errors") || line.starts_with("Warning: ");
    Ran {
        lines: recorder.lines_of("b").into_iter().filter(|line| !engine(line)).map(plain).collect(),
        error: report.builds[0].error.as_ref().map(|e| plain(e.to_string())),
        left: left.collect(),
    }
}

fn file(folder: &TempFolder, name: &str, content: &str) -> String {
    let path = folder.path().join(name);
    std::fs::write(&path, content).unwrap();
    path.display().to_string()
}

/// A shell step that keeps its scripts in the machine's own folder.
fn inline(lines: &[&str]) -> Shell {
    let mut shell = Shell::inline(lines.iter().copied());
    shell.remote_folder = ".".into();
    shell
}

#[tokio::test]
async fn shell_runs_lines_with_variables_and_removes_its_script() {
    let folder = TempFolder::new();
    let mut first = inline(&[
        "echo \"$PACKER_BUILD_NAME $PACKER_BUILDER_TYPE ${PACKER_HTTP_PORT-none}\"",
        "echo '{{build_name}}' \"$A\" \"$Q\" >&2",
        "ls",
        "printf end",
    ])
    .env("Q", "it's \"$HOME\"");
    first.environment_vars = vec!["A=a=b".into(), "Q=loses".into()];
    let ran = run(&folder, [first.into(), inline(&["ls -a | wc -l | tr -d ' '"]).into()]).await;
    assert_eq!(ran.error, None);
    // The order of lines of two streams is not fixed.
    let mut lines = ran.lines;
    lines.sort();
    assert_eq!(
        lines,
        [
            "3", // `.`, `..` and the second step's own script
            "Provisioning with shell script: TMP/packer-shell",
            "Provisioning with shell script: TMP/packer-shell",
            "b a=b it's \"$HOME\"",
            "b fake-builder none",
            "end",
            "script_.sh",
        ]
    );
    assert_eq!(ran.left, [""; 0]);
}

#[tokio::test]
async fn shell_runs_files_in_order_and_stops_at_a_wrong_code() {
    let folder = TempFolder::new();
    let one = file(&folder, "one.sh", "echo one\r\nexit 3\r\n");
    let two = file(&folder, "two.sh", "echo two; exit 4");
    let never = file(&folder, "never.sh", "echo never");
    let mut shell = Shell::scripts([one, two, never]).valid_exit_codes([0, 3]).env("X", "1");
    shell.remote_folder = ".".into();
    shell.use_env_var_file = true;
    shell.execute_command = "sh -c '. {{.EnvVarFile}}; ls; sh {{.Path}}'".into();
    let ran = run(&folder, [shell.continue_on_error(), inline(&["ls"]).into()]).await;
    assert_eq!(
        ran.lines,
        [
            "Provisioning with shell script: DIR/one.sh",
            "script_.sh",
            "varfile_.sh",
            "one",
            "Provisioning with shell script: DIR/two.sh",
            "script_.sh",
            "varfile_.sh",
            "two",
            // After the failure nothing is left in the machine but the next step's script.
            "Provisioning with shell script: TMP/packer-shell",
            "script_.sh",
        ]
    );
    let failing = inline(&["exit 9"]).valid_exit_codes([2, 3]);
    let ran = run(&folder, [failing.into()]).await;
    let expected = "Script exited with non-zero exit status: 9. Allowed exit codes are: [2 3]";
    assert_eq!(ran.error.as_deref(), Some(expected));
}

#[tokio::test]
async fn shell_knows_a_broken_connection_by_its_code() {
    // A folder cannot be disconnected from; a communicator may also say so by the code, of which a shell keeps 8 bits.
    let folder = TempFolder::new();
    let ran = run(&folder, [inline(&["kill -9 $$"]).into()]).await;
    let expected = "Script exited with non-zero exit status: 137. Allowed exit codes are: [0]";
    assert_eq!(ran.error.as_deref(), Some(expected));
}

#[tokio::test]
async fn shell_gives_up_when_time_is_over() {
    let folder = TempFolder::new();
    let mut shell = inline(&["true"]);
    shell.remote_path = "no/such/folder/script.sh".into();
    shell.start_retry_timeout = Duration::from_millis(1).into();
    let ran = run(&folder, [shell.into()]).await;
    let error = ran.error.unwrap();
    assert!(error.starts_with("Error uploading script: "), "{error}");
}

#[tokio::test]
async fn shell_local_shows_lines_and_leaves_nothing() {
    let folder = TempFolder::new();
    let step = ShellLocal::from(
        LocalShell::inline([
            "printf 'one\\n\\n  two  \\nprogress 1\\rprogress 2\\r\\nnot ended'",
            "test \"$(wc -c < /dev/stdin)\" -eq 0 && test \"$0\" != sh && stat -c ' %a' \"$0\"",
            "echo \"$PACKER_RUN_UUID $ID\" | wc -w",
        ])
        .env("ID", "{{.ID}}"),
    );
    let ran = run(&folder, [step.into()]).await;
    assert_eq!(ran.error, None);
    assert_eq!(
        ran.lines,
        [
            "Running local shell script: TMP/packer-shell",
            "one",
            "",
            "  two",
            "progress 2",
            "not ended 700",
            "2"
        ]
    );
    assert_eq!(ran.left, [""; 0]);
}

#[tokio::test]
async fn shell_local_tells_what_could_not_run_and_signals() {
    let folder = TempFolder::new();
    let script = file(&folder, "do.sh", "x");
    let missing = LocalShell::scripts([script]).execute_command(["no-such-program-here", "{{.Script}}"]);
    let ran = run(&folder, [ShellLocal::from(missing).into()]).await;
    let expected = "Error executing script: DIR/do.sh\n\nPlease see output above for more information.";
    assert_eq!(ran.error.as_deref(), Some(expected));
    let killed = LocalShell::inline(["import os; os.kill(os.getpid(), 9)"])
        .execute_command(["python3", "{{.Script}}"]);
    let ran = run(&folder, [ShellLocal::from(killed.valid_exit_codes([-1])).into()]).await;
    assert_eq!(ran.error, None);
}

#[tokio::test]
async fn shell_local_is_killed_with_all_it_started() {
    let folder = TempFolder::new();
    let alive = folder.path().join("alive");
    let beat = format!("(while :; do date +%N > {}; sleep 0.02; done) &", alive.display());
    let step = ShellLocal::inline([beat.as_str(), "sleep 60"]).timeout(Duration::from_millis(500));
    let began = Instant::now();
    let ran = run(&folder, [step]).await;
    assert!(ran.error.is_some());
    assert!(began.elapsed() < Duration::from_secs(20), "the build waits for nobody");
    let last = std::fs::read_to_string(&alive).unwrap();
    tokio::time::sleep(Duration::from_millis(200)).await;
    assert_eq!(std::fs::read_to_string(&alive).unwrap(), last, "nobody is there to write any more");
    assert_eq!(ran.left, [""; 0]);
}

#[tokio::test]
async fn files_go_up_and_come_back() {
    let folder = TempFolder::new();
    let one = file(&folder, "one.txt", "1");
    let two = file(&folder, "two.txt", "22");
    std::fs::create_dir_all(folder.path().join("tree/deep")).unwrap();
    file(&folder, "tree/deep/leaf", "leaf");
    let tree = folder.path().join("tree").display().to_string();
    let back = folder.path().join("back").display().to_string();
    let mut many = Upload::new(two, "up/");
    many.sources = vec![one, tree.clone()];
    let mut down = FileProvisioner::download("up/tree/", format!("{back}/"));
    down.sources = vec!["up/two.txt".into(), "up/one.txt".into()];
    let steps = [
        inline(&["mkdir up plain"]).into(),
        many.into(),
        Upload::content("motd {{build_type}}", "motd").into(),
        Upload::new(format!("{tree}/"), "plain").into(),
        inline(&["find . -type f ! -name 'script*' | sort; cat motd"]).into(),
        down.into(),
    ];
    let ran = run(&folder, steps).await;
    assert_eq!(ran.error, None, "{:#?}", ran.lines);
    let shell = "Provisioning with shell script: TMP/packer-shell";
    assert_eq!(
        ran.lines,
        [
            shell,
            "Uploading DIR/one.txt => up/",
            "Uploading DIR/tree => up/",
            "Uploading DIR/two.txt => up/",
            "Uploading TMP/pkr-file-content => motd",
            "Uploading DIR/tree/ => plain",
            shell,
            "./motd",
            "./plain/deep/leaf",
            "./up/one.txt",
            "./up/tree/deep/leaf",
            "./up/two.txt",
            "motd {{build_type}}", // templates in code's texts are what a template's loader renders
            "Downloading up/two.txt => DIR/back/two.txt",
            "Downloading up/one.txt => DIR/back/one.txt",
            "Downloading up/tree/ => DIR/back/",
        ]
    );
    let read = |name: &str| std::fs::read_to_string(Path::new(&back).join(name)).unwrap();
    assert_eq!([read("two.txt"), read("one.txt"), read("tree/deep/leaf")], ["22", "1", "leaf"]);
    assert_eq!(ran.left, [""; 0]);
}

#[tokio::test]
async fn a_failed_download_leaves_the_old_file() {
    let folder = TempFolder::new();
    let old = file(&folder, "old", "old");
    let ran = run(&folder, [FileProvisioner::download("missing", &old).into()]).await;
    assert_eq!(ran.lines.len(), 2, "{:?}", ran.lines);
    assert!(ran.lines[1].starts_with("Download failed: "), "{:?}", ran.lines);
    assert_eq!(std::fs::read_to_string(old).unwrap(), "old");
    assert_eq!(std::fs::read_dir(folder.path()).unwrap().count(), 2, "the old file and the temporary folder");
}

#[tokio::test]
async fn a_breakpoint_needs_somebody_to_ask() {
    let folder = TempFolder::new();
    let mut off = Breakpoint::note("later");
    off.disable = true;
    let ran = run(&folder, [off.into(), Breakpoint::note("look").into()]).await;
    assert_eq!(
        ran.lines,
        [
            "Breakpoint provisioner with note \"later\" disabled; continuing...",
            "Pausing at breakpoint provisioner with note \"look\"."
        ]
    );
    let error = ran.error.unwrap();
    assert!(error.starts_with("Error asking for input: "), "{error}");
}

#[tokio::test(flavor = "multi_thread")]
async fn each_keeps_the_rules() {
    let bench = Bench::new();
    let upload = bench.folder().join("upload");
    std::fs::write(&upload, "x".repeat(100_000)).unwrap();
    let upload = upload.display().to_string();
    provisioner::suite(&inline(&["echo hello", "echo there >&2"])).await;
    provisioner::suite(&ShellLocal::inline(["echo hello"])).await;
    provisioner::suite(&Upload::new(&upload, "copy")).await;
    provisioner::suite(&Upload::content("text", "copy")).await;
    let copy = bench.folder().join("copy").display().to_string();
    provisioner::suite(&FileProvisioner::download(&upload, copy)).await;
    provisioner::suite(&Sleep::seconds(0)).await;
}
