//! A machine that is a folder of this computer: commands run in it with `/bin/sh`, files are copied.

use std::io;
use std::path::{Path, PathBuf};
use std::process::Stdio;

use async_trait::async_trait;
use tokio::fs;
use tokio::io::{AsyncWrite, AsyncWriteExt};

use crate::communicator::{Command, Communicator, ExitStatus, Globs, Source};
use crate::context::Context;
use crate::error::{Error, Result};
use crate::kit::process::{feed, pump};

/// Enters a folder as if it were a machine. Commands run there under `/bin/sh`, unless said otherwise; relative paths start there, absolute
/// ones are this computer's own.
#[derive(Debug, Clone)]
pub struct LocalMachine {
    folder: PathBuf,
    /// The shell that commands run in, with its arguments before `-c`.
    shell: Vec<String>,
}

impl LocalMachine {
    /// The machine whose home is this folder.
    pub fn new(folder: impl Into<PathBuf>) -> Self {
        Self { folder: folder.into(), shell: vec!["/bin/sh".into()] }
    }

    /// Runs commands in another shell, which is given its arguments and `-c COMMAND`.
    #[must_use]
    pub fn shell<S: Into<String>>(mut self, words: impl IntoIterator<Item = S>) -> Self {
        self.shell = words.into_iter().map(Into::into).collect();
        self
    }

    /// Where a path of the machine is on this computer.
    pub fn path(&self, remote: &str) -> PathBuf {
        self.folder.join(remote)
    }
}

#[async_trait]
impl Communicator for LocalMachine {
    async fn exec(&self, _: &Context, command: Command<'_>) -> Result<ExitStatus> {
        let (program, arguments) =
            self.shell.split_first().ok_or_else(|| Error::internal("the machine has no shell"))?;
        let failed = |e| Error::provider(format!("{program}: {}", crate::error::os_text(&e)));
        let mut shell = tokio::process::Command::new(program);
        shell
            .args(arguments)
            .arg("-c")
            .arg(&command.text)
            .current_dir(&self.folder)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .kill_on_drop(true);
        let mut child = crate::kit::shell::process::spawn(&mut shell).map_err(failed)?;
        let (stdin, stdout, stderr) = (child.stdin.take(), child.stdout.take(), child.stderr.take());
        let output = async {
            tokio::try_join!(pump(stdout, command.stdout), pump(stderr, command.stderr))?;
            child.wait().await
        };
        // A command need not read its input: once it has ended, what is left of that is dropped.
        let status = tokio::select! {
            status = output => status,
            never = feed(command.stdin, stdin) => match never {},
        };
        Ok(status_of(status.map_err(failed)?))
    }

    fn passes_input(&self) -> bool {
        true
    }

    async fn upload(&self, _: &Context, source: Source<'_>, destination: &str) -> Result<()> {
        let to = self.path(destination);
        let failed = |e| Error::io("write", &to, e);
        match source {
            Source::File(from) => copy_file(from, &to).await,
            Source::Bytes(bytes) => fs::write(&to, bytes).await.map_err(failed),
            Source::Reader { reader, mode, .. } => {
                let mut file = fs::File::create(&to).await.map_err(failed)?;
                tokio::io::copy(reader, &mut file).await.map_err(failed)?;
                file.flush().await.map_err(failed)?;
                set_mode(&to, mode).await.map_err(failed)
            }
        }
    }

    async fn upload_dir(&self, _: &Context, from: &Path, to: &str, exclude: &Globs) -> Result<()> {
        let contents = from.as_os_str().to_string_lossy().ends_with('/');
        copy_folder(from, &self.path(to), contents, exclude).await
    }

    async fn download(
        &self,
        _: &Context,
        source: &str,
        sink: &mut (dyn AsyncWrite + Send + Unpin),
    ) -> Result<()> {
        let from = self.path(source);
        let failed = |e| Error::io("read", &from, e);
        let mut file = fs::File::open(&from).await.map_err(failed)?;
        tokio::io::copy(&mut file, sink).await.map_err(failed)?;
        sink.flush().await.map_err(failed)
    }

    async fn download_dir(&self, _: &Context, source: &str, to: &Path, exclude: &Globs) -> Result<()> {
        copy_folder(&self.path(source), to, source.ends_with('/'), exclude).await
    }
}

fn status_of(status: std::process::ExitStatus) -> ExitStatus {
    #[cfg(unix)]
    if let Some(signal) = std::os::unix::process::ExitStatusExt::signal(&status) {
        return ExitStatus::Signal(signal);
    }
    ExitStatus::Code(status.code().unwrap_or(-1))
}

async fn copy_file(from: &Path, to: &Path) -> Result<()> {
    let mut reader = fs::File::open(from).await.map_err(|e| Error::io("open", from, e))?;
    let mut writer = fs::File::create(to).await.map_err(|e| Error::io("write", to, e))?;
    tokio::io::copy(&mut reader, &mut writer).await.map_err(|e| Error::io("write", to, e))?;
    writer.flush().await.map_err(|e| Error::io("write", to, e))?;
    let permissions = reader.metadata().await.map_err(|e| Error::io("stat", from, e))?.permissions();
    fs::set_permissions(to, permissions).await.map_err(|e| Error::io("chmod", to, e))
}

#[cfg_attr(not(unix), allow(unused_variables))]
async fn set_mode(path: &Path, mode: Option<u32>) -> io::Result<()> {
    #[cfg(unix)]
    if let Some(mode) = mode {
        let permissions = std::os::unix::fs::PermissionsExt::from_mode(mode);
        return fs::set_permissions(path, permissions).await;
    }
    Ok(())
}

/// Copies a folder, or its contents; symbolic links to files become files.
async fn copy_folder(from: &Path, to: &Path, contents: bool, exclude: &Globs) -> Result<()> {
    let from = &std::path::absolute(from).map_err(|e| Error::io("open", from, e))?;
    let to = match from.file_name() {
        Some(name) if !contents => to.join(name),
        _ => to.to_owned(),
    };
    let mut folders = vec![PathBuf::new()];
    while let Some(below) = folders.pop() {
        let (source, target) = (from.join(&below), to.join(&below));
        let mut entries = fs::read_dir(&source).await.map_err(|e| Error::io("open", &source, e))?;
        fs::create_dir_all(&target).await.map_err(|e| Error::io("mkdir", &target, e))?;
        while let Some(entry) = entries.next_entry().await.map_err(|e| Error::io("read", &source, e))? {
            let path = below.join(entry.file_name());
            let kind = entry.file_type().await.map_err(|e| Error::io("stat", &path, e))?;
            if exclude.matches(&path) {
                continue;
            }
            if kind.is_dir() {
                folders.push(path);
            } else {
                copy_file(&entry.path(), &to.join(&path)).await?;
            }
        }
    }
    Ok(())
}
