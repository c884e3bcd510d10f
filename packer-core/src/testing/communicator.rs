//! The behaviour suite of communicators.

use std::collections::BTreeMap;
use std::io::Cursor;
use std::path::Path;
use std::time::Duration;

use super::TempFolder;
use super::shells::{LARGE, Shell};
use crate::communicator::{Command, Communicator, CommunicatorExt, ExitStatus, Globs, Source};
use crate::context::Context;

/// How long anything here may take; what takes longer hangs.
const LIMIT: Duration = Duration::from_secs(120);

/// Checks every rule of [`Communicator`] on a machine that has `sh`, `cat`, `head`, `mkdir` and `stat`.
///
/// Works in a new folder under the machine's `/tmp` and removes it.
///
/// # Panics
/// Where a rule is broken.
pub async fn suite(communicator: &dyn Communicator, cx: &Context) {
    run(Shell::Posix, communicator, cx).await;
}

/// The same on a Windows machine whose commands run in `cmd`. There are no permission bits to look at, nor signals, and
/// an upload may make the folders its file is in.
///
/// Works in a new folder under the machine's `%TEMP%` and removes it.
///
/// # Panics
/// Where a rule is broken.
pub async fn windows_suite(communicator: &dyn Communicator, cx: &Context) {
    run(Shell::Cmd, communicator, cx).await;
}

/// Checks what becomes of a communicator whose connection breaks under a command and can be made again: the command's status
/// is [`ExitStatus::Disconnected`], and whoever comes next finds the machine as before.
///
/// `lasting` is a command that does not end by itself; `cut` breaks the connection, and is done once the machine can be
/// entered again. It is called twice.
///
/// # Panics
/// Where a rule is broken.
pub async fn reconnects(communicator: &dyn Communicator, cx: &Context, lasting: &str, cut: impl AsyncFn()) {
    for _ in 0..2 {
        let cutting = async {
            tokio::time::sleep(Duration::from_millis(500)).await;
            cut().await;
        };
        let both = async { tokio::join!(communicator.output(cx, lasting), cutting) };
        let (output, ()) = within("a command whose connection breaks", both).await;
        let output = output.unwrap_or_else(|e| panic!("a connection that breaks is an exit status: {e}"));
        assert_eq!(output.status, ExitStatus::Disconnected, "a command whose connection breaks");
        let code = async |code: i32| {
            let output = communicator.output(cx, &format!("exit {code}")).await;
            output.unwrap_or_else(|e| panic!("a command after the connection broke: {e}")).status.code()
        };
        let codes = async { tokio::join!(code(0), code(3), code(5), code(7)) };
        let codes = within("commands after the connection broke", codes).await;
        assert_eq!(codes, (0, 3, 5, 7), "commands at once after the connection broke");
    }
}

async fn run(shell: Shell, communicator: &dyn Communicator, cx: &Context) {
    let made = shell.make_temporary(&format!("packer-suite-{}", uuid::Uuid::new_v4().simple()));
    let made = communicator.output(cx, &made).await.expect("a folder can be made");
    assert!(made.status.success(), "a folder can be made: {made:?}");
    let remote = made.text().trim_end().replace('\\', "/");
    let suite = Suite { shell, communicator, cx, remote, local: TempFolder::new() };
    within("exit codes", suite.exit_codes()).await;
    within("streams", suite.streams()).await;
    within("large output", suite.large_output()).await;
    within("concurrent commands", suite.concurrent_commands()).await;
    within("files", suite.files()).await;
    within("file errors", suite.file_errors()).await;
    within("large file", suite.large_file()).await;
    within("concurrent transfers", suite.concurrent_transfers()).await;
    within("folder upload", suite.folder_upload()).await;
    within("folder download", suite.folder_download()).await;
    within("folder errors", suite.folder_errors()).await;
    within("cancellation", suite.cancellation()).await;
    suite.run(&shell.remove_folder(&suite.remote)).await;
    suite.run(&shell.is_missing(&suite.remote)).await;
}

async fn within<T>(what: &str, work: impl Future<Output = T>) -> T {
    match tokio::time::timeout(LIMIT, work).await {
        Ok(value) => value,
        Err(_) => panic!("{what}: nothing happened for {LIMIT:?}"),
    }
}

struct Suite<'a> {
    shell: Shell,
    communicator: &'a dyn Communicator,
    cx: &'a Context,
    remote: String,
    local: TempFolder,
}

impl Suite<'_> {
    /// Runs a command that must succeed; its output.
    async fn run(&self, text: &str) -> String {
        let output = self.communicator.output(self.cx, text).await;
        let output = output.unwrap_or_else(|e| panic!("{text}: {e}"));
        let errors = String::from_utf8_lossy(&output.stderr).into_owned();
        assert!(output.status.success(), "{text} ended with {:?}: {errors}", output.status);
        output.text()
    }

    async fn exit_codes(&self) {
        for code in self.shell.codes() {
            let output = self.communicator.output(self.cx, &format!("exit {code}")).await;
            let status = output.unwrap_or_else(|e| panic!("exit {code} is an error: {e}")).status;
            assert_eq!(status.code(), *code, "the code of `exit {code}`");
        }
        let output = self.communicator.output(self.cx, "no-such-program").await;
        let status = output.expect("a command that is not found is an exit code").status;
        assert!(!status.success(), "a command that is not found");
        if self.shell != Shell::Posix {
            return;
        }
        assert_eq!(status.code(), 127, "a command that is not found");
        let output = self.communicator.output(self.cx, "kill -9 $$").await;
        let status = output.expect("a command that is killed is an exit status").status;
        assert!(
            matches!(status, ExitStatus::Signal(9) | ExitStatus::Code(137 | -1 | 255)),
            "a command that is killed: {status:?}"
        );
    }

    async fn streams(&self) {
        let end = self.shell.end_of_line();
        let output = self.communicator.output(self.cx, self.shell.both_streams()).await;
        let output = output.expect("a command with output runs");
        let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
        assert_eq!(text(&output.stdout), format!("out{end}last{end}"), "standard output");
        assert_eq!(text(&output.stderr), format!("err{end}"), "standard error");

        let copy = self.shell.copy_input();
        let sent: Vec<u8> = match self.shell {
            Shell::Posix => (0..=255).cycle().take(300_000).collect(),
            Shell::Cmd => "a line of text, größe-数\r\n".repeat(10_000).into_bytes(),
        };
        assert!(self.piped(copy, &sent).await.1 == sent, "every byte passes through `{copy}`");

        let (code, _) = self.piped("exit 3", &vec![b'x'; 2_000_000]).await;
        assert_eq!(code, 3, "a command that does not read its input");

        let output = self.communicator.output(self.cx, copy).await.expect("it runs");
        assert_eq!(output.stdout, b"", "without input a command reads its end at once");

        self.communicator
            .exec(self.cx, Command::new(self.shell.both_streams()))
            .await
            .expect("output nobody wants is dropped");
    }

    async fn piped(&self, text: &str, input: &[u8]) -> (i32, Vec<u8>) {
        let (mut input, mut output) = (Cursor::new(input.to_vec()), Vec::new());
        let command = Command::new(text).stdin(&mut input).stdout(&mut output);
        let status = self.communicator.exec(self.cx, command).await;
        (status.unwrap_or_else(|e| panic!("{text}: {e}")).code(), output)
    }

    async fn large_output(&self) {
        let output = self.communicator.output(self.cx, &self.shell.large_output()).await;
        let output = output.expect("a command with large output runs");
        assert_eq!(output.stdout.len(), LARGE, "bytes of standard output");
        assert_eq!(output.stderr.len(), LARGE, "bytes of standard error");
    }

    /// Each command waits for the file of the next one: they end only if they run at the same time.
    async fn concurrent_commands(&self) {
        let file = |n: u8| format!("{}/run{n}", self.remote);
        let command = |own: u8, next: u8| self.shell.meet(own, &file(own), &file(next));
        let texts = [command(1, 2), command(2, 3), command(3, 4), command(4, 1)];
        let results =
            tokio::join!(self.run(&texts[0]), self.run(&texts[1]), self.run(&texts[2]), self.run(&texts[3]));
        assert_eq!(results, ("1".into(), "2".into(), "3".into(), "4".into()), "each has its own output");
    }

    async fn files(&self) {
        let mut contents: BTreeMap<String, Vec<u8>> = BTreeMap::new();
        for name in self.shell.names() {
            contents.insert((*name).to_owned(), format!("content of {name}\n\0\r\n").into_bytes());
        }
        contents.insert("empty".to_owned(), Vec::new());
        contents.insert("one buffer".to_owned(), vec![7; 32 * 1024]);
        contents.insert("one buffer and a byte".to_owned(), vec![8; 32 * 1024 + 1]);
        for (name, content) in &contents {
            let remote = format!("{}/{name}", self.remote);
            self.communicator
                .upload_bytes(self.cx, content, &remote)
                .await
                .unwrap_or_else(|e| panic!("upload of {name:?}: {e}"));
            let size = self.run(&self.shell.size(&remote)).await;
            assert_eq!(size.trim(), content.len().to_string(), "size of {name:?} in the machine");
            let back = self.communicator.read(self.cx, &remote).await;
            let back = back.unwrap_or_else(|e| panic!("download of {name:?}: {e}"));
            assert!(back == *content, "{name:?} comes back as it went");
        }

        for (mode, name) in [(0o640, "m640"), (0o755, "m755"), (0o600, "m600")] {
            let local = self.write(name, b"#!/bin/sh\necho hi\n", mode);
            let remote = format!("{}/{name}", self.remote);
            self.communicator.upload_file(self.cx, &local, &remote).await.expect("upload of a local file");
            self.same_mode(&remote, mode).await;
        }

        let remote = format!("{}/replaced", self.remote);
        for content in [&b"a long content"[..], b"short", b""] {
            self.communicator.upload_bytes(self.cx, content, &remote).await.expect("upload over a file");
            let back = self.communicator.read(self.cx, &remote).await.expect("download");
            assert_eq!(back, content, "an upload replaces what was there");
        }

        for (size, mode) in [(Some(5), Some(0o700)), (None, None)] {
            let mut reader = Cursor::new(b"12345".to_vec());
            let source = Source::Reader { reader: &mut reader, size, mode };
            self.communicator.upload(self.cx, source, &remote).await.expect("upload of a stream");
            assert_eq!(self.communicator.read(self.cx, &remote).await.expect("download"), b"12345");
            if let Some(mode) = mode {
                self.same_mode(&remote, mode).await;
            }
        }
    }

    async fn same_mode(&self, remote: &str, mode: u32) {
        if cfg!(unix) && self.shell == Shell::Posix {
            let shown = self.run(&format!("stat -c %a {remote}")).await;
            assert_eq!(shown, format!("{mode:o}"), "permission bits of {remote}");
        }
    }

    async fn file_errors(&self) {
        if self.shell == Shell::Posix {
            let nowhere = format!("{}/no/such/folder/file", self.remote);
            let result = self.communicator.upload_bytes(self.cx, b"x", &nowhere).await;
            assert!(result.is_err(), "parent folders are not made, so an upload below a missing one fails");
            let result = self.communicator.upload_bytes(self.cx, b"", &nowhere).await;
            assert!(result.is_err(), "the same for an empty file");
        }
        let missing = self.local.path().join("missing");
        let result = self.communicator.upload_file(self.cx, &missing, &format!("{}/x", self.remote)).await;
        assert!(result.is_err(), "a local file that is missing");
        let missing = format!("{}/missing", self.remote);
        assert!(self.communicator.read(self.cx, &missing).await.is_err(), "a remote file that is missing");
        assert!(self.communicator.read(self.cx, &self.remote).await.is_err(), "a folder is no file");
    }

    async fn large_file(&self) {
        let content = noise(8 * 1024 * 1024 + 13);
        let local = self.write("large", &content, 0o644);
        let remote = format!("{}/large", self.remote);
        self.communicator.upload_file(self.cx, &local, &remote).await.expect("upload of 8 MiB");
        let back = self.communicator.read(self.cx, &remote).await.expect("download of 8 MiB");
        assert!(back == content, "8 MiB come back as they went");
    }

    async fn concurrent_transfers(&self) {
        let contents: Vec<Vec<u8>> = (0..4).map(|i| noise(500_000 + i)).collect();
        let transfer = async |i: usize| {
            let remote = format!("{}/at-once-{i}", self.remote);
            self.communicator.upload_bytes(self.cx, &contents[i], &remote).await.expect("upload at once");
            let back = self.communicator.read(self.cx, &remote).await.expect("download at once");
            assert!(back == contents[i], "transfers at once do not mix");
        };
        tokio::join!(transfer(0), transfer(1), transfer(2), transfer(3));
    }

    /// A local folder with what folders hold; what it holds, by path.
    fn tree(&self) -> (std::path::PathBuf, BTreeMap<String, Vec<u8>>) {
        let root = self.local.path().join("tree");
        let mut files: BTreeMap<String, Vec<u8>> = BTreeMap::new();
        files.insert("top.txt".to_owned(), b"top".to_vec());
        files.insert("empty.txt".to_owned(), Vec::new());
        files.insert("a/b/c/deep file".to_owned(), noise(100_000));
        files.insert("a/skip.o".to_owned(), b"object".to_vec());
        files.insert("a/größe 'x'".to_owned(), b"name".to_vec());
        for (path, content) in &files {
            let path = root.join(path);
            std::fs::create_dir_all(path.parent().unwrap()).unwrap();
            std::fs::write(path, content).unwrap();
        }
        std::fs::create_dir_all(root.join("hollow")).unwrap();
        #[cfg(unix)]
        {
            std::fs::remove_file(root.join("link")).ok();
            std::os::unix::fs::symlink("top.txt", root.join("link")).unwrap();
            files.insert("link".to_owned(), b"top".to_vec());
        }
        (root, files)
    }

    async fn folder_upload(&self) {
        let (root, files) = self.tree();
        let into = format!("{}/into", self.remote);
        self.run(&self.shell.make_folder(&into)).await;
        let none = Globs::none();
        self.communicator.upload_dir(self.cx, &root, &into, &none).await.expect("upload of a folder");
        for (path, content) in &files {
            let remote = format!("{into}/tree/{path}");
            let back = self.communicator.read(self.cx, &remote).await;
            let back = back.unwrap_or_else(|e| panic!("{remote} after the upload of a folder: {e}"));
            assert!(
                back == *content,
                "{path:?} of an uploaded folder (no trailing slash: the folder itself)"
            );
        }
        self.run(&self.shell.is_folder(&format!("{into}/tree/hollow"))).await;

        let nothing = self.local.path().join("nothing");
        std::fs::create_dir(&nothing).unwrap();
        self.communicator
            .upload_dir(self.cx, &nothing, &into, &none)
            .await
            .expect("upload of an empty folder");
        self.run(&self.shell.is_folder(&format!("{into}/nothing"))).await;

        let contents = format!("{}/contents", self.remote);
        self.run(&self.shell.make_folder(&contents)).await;
        self.put(&format!("{contents}/kept"), b"old").await;
        let slashed = format!("{}/", root.display());
        let globs = Globs::new(["**/*.o", "hollow"]).unwrap();
        self.communicator
            .upload_dir(self.cx, Path::new(&slashed), &contents, &globs)
            .await
            .expect("upload of a folder's contents");
        let top = self.communicator.read(self.cx, &format!("{contents}/top.txt")).await;
        assert_eq!(top.expect("trailing slash: the contents"), b"top");
        let deep = self.communicator.read(self.cx, &format!("{contents}/a/b/c/deep file")).await;
        assert!(deep.expect("folders below") == files["a/b/c/deep file"]);
        self.run(&self.shell.is_missing(&format!("{contents}/a/skip.o"))).await;
        self.run(&self.shell.is_missing(&format!("{contents}/hollow"))).await;
        let kept = self.communicator.read(self.cx, &format!("{contents}/kept")).await;
        assert_eq!(kept.expect("what was in the folder stays"), b"old");
    }

    async fn folder_download(&self) {
        let source = format!("{}/source", self.remote);
        for folder in ["a/b", "hollow"] {
            self.run(&self.shell.make_folder(&format!("{source}/{folder}"))).await;
        }
        let two = noise(100_000);
        for (name, content) in [("one", &b"1\n"[..]), ("a/b/two x", &two), ("empty", b""), ("a/x.o", b"o")] {
            self.put(&format!("{source}/{name}"), content).await;
        }
        let none = Globs::none();
        let to = self.local.path().join("down");
        std::fs::create_dir(&to).unwrap();
        self.communicator.download_dir(self.cx, &source, &to, &none).await.expect("download of a folder");
        let read = |path: &str| {
            std::fs::read(to.join(path)).unwrap_or_else(|e| panic!("{path} after a download: {e}"))
        };
        assert_eq!(read("source/one"), b"1\n", "no trailing slash: the folder itself");
        assert!(read("source/a/b/two x") == two, "a file below comes as it is");
        assert_eq!(read("source/empty"), b"");
        assert!(to.join("source/hollow").is_dir(), "an empty folder comes too");

        let to = self.local.path().join("down-contents");
        std::fs::create_dir(&to).unwrap();
        let globs = Globs::new(["**/*.o"]).unwrap();
        self.communicator
            .download_dir(self.cx, &format!("{source}/"), &to, &globs)
            .await
            .expect("download of a folder's contents");
        assert_eq!(std::fs::read(to.join("one")).expect("trailing slash: the contents"), b"1\n");
        assert!(to.join("a/b/two x").is_file());
        assert!(!to.join("a/x.o").exists(), "what the patterns exclude stays away");
    }

    async fn folder_errors(&self) {
        let none = Globs::none();
        let missing = self.local.path().join("missing");
        let result = self.communicator.upload_dir(self.cx, &missing, &self.remote, &none).await;
        assert!(result.is_err(), "a local folder that is missing");
        let missing = format!("{}/missing", self.remote);
        let result = self.communicator.download_dir(self.cx, &missing, self.local.path(), &none).await;
        assert!(result.is_err(), "a remote folder that is missing");
    }

    async fn cancellation(&self) {
        let (sleep, endless) = (self.shell.sleep(), self.shell.endless_output());
        let sleeping = self.communicator.output(self.cx, sleep);
        let dropped = tokio::time::timeout(Duration::from_millis(300), sleeping).await;
        assert!(dropped.is_err(), "`{sleep}` ended early");
        assert_eq!(self.run("echo alive").await, "alive", "a dropped command leaves the connection usable");
        let mut sink = tokio::io::sink();
        let printing = self.communicator.exec(self.cx, Command::new(endless).stdout(&mut sink));
        assert!(tokio::time::timeout(Duration::from_millis(200), printing).await.is_err());
        assert_eq!(self.run("echo alive").await, "alive", "so does one that prints for ever");
        let printing = self.communicator.output(self.cx, endless);
        // Dropped, or ended because it is too much to be kept.
        let ended = tokio::time::timeout(Duration::from_millis(200), printing).await;
        assert!(!matches!(ended, Ok(Ok(_))), "what prints for ever does not end");
        assert_eq!(self.run("echo alive").await, "alive", "so does one of which too much was to be kept");
    }

    /// Makes a file in the machine.
    async fn put(&self, remote: &str, content: &[u8]) {
        let put = self.communicator.upload_bytes(self.cx, content, remote).await;
        put.unwrap_or_else(|e| panic!("upload of {remote}: {e}"));
    }

    fn write(&self, name: &str, content: &[u8], mode: u32) -> std::path::PathBuf {
        let path = self.local.path().join(name);
        std::fs::write(&path, content).unwrap();
        #[cfg(unix)]
        {
            let permissions = std::os::unix::fs::PermissionsExt::from_mode(mode);
            std::fs::set_permissions(&path, permissions).unwrap();
        }
        #[cfg(not(unix))]
        let _ = mode;
        path
    }
}

/// Bytes without a pattern, the same each time.
fn noise(size: usize) -> Vec<u8> {
    let mut state = 0x9e37_79b9_7f4a_7c15_u64 ^ size as u64;
    let mut next = || {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        (state >> 32) as u8
    };
    (0..size).map(|_| next()).collect()
}

#[cfg(test)]
mod tests {
    use crate::communicator::{Command, Communicator, CommunicatorExt, NoCommunicator};
    use crate::testing::{Bench, LocalMachine};

    #[tokio::test(flavor = "multi_thread")]
    async fn a_folder_is_a_machine() {
        let bench = Bench::new();
        super::suite(&LocalMachine::new(bench.folder()), bench.context()).await;
    }

    #[tokio::test]
    async fn no_communicator_runs_nothing_and_refuses_transfers() {
        let bench = Bench::new();
        let cx = bench.context();
        let none = NoCommunicator::new();
        assert!(none.exec(cx, Command::new("exit 7")).await.unwrap().success());
        let error = none.upload_bytes(cx, b"x", "/x").await.unwrap_err();
        assert_eq!(error.to_string(), "Upload is not implemented when communicator = 'none'");
        assert!(none.read(cx, "/x").await.is_err());
        assert!(NoCommunicator::accepting().upload_bytes(cx, b"x", "/x").await.is_ok());
    }
}
