//! Windows containers: commands go through PowerShell, and files through a folder that both sides see, because the
//! engine cannot copy into a running one.

use std::path::{Path, PathBuf};

use tokio::io::{AsyncWrite, AsyncWriteExt};

use super::super::output::Kept;
use super::super::tree::{Links, LocalTree};
use super::super::{Command, Globs, Source};
use super::{Inner, exec};
use crate::context::Context;
use crate::error::{Error, Result};

/// The shared folder, as this computer and the container call it.
type Shared = (PathBuf, String);

pub(super) fn shell(text: &str) -> Vec<String> {
    vec!["powershell".to_owned(), text.to_owned()]
}

pub(super) async fn upload(
    inner: &Inner,
    shared: &Shared,
    source: Source<'_>,
    destination: &str,
) -> Result<()> {
    let (local, remote) = meeting_point(shared);
    let failed = |e| Error::io("write", &local, e);
    match source {
        Source::File(path) => {
            tokio::fs::copy(path, &local).await.map_err(|e| Error::io("open", path, e))?;
        }
        Source::Bytes(bytes) => tokio::fs::write(&local, bytes).await.map_err(failed)?,
        Source::Reader { reader, .. } => {
            let mut file = tokio::fs::File::create(&local).await.map_err(failed)?;
            tokio::io::copy(reader, &mut file).await.map_err(failed)?;
            file.flush().await.map_err(failed)?;
        }
    }
    let text = format!("Copy-Item -Path {} -Destination {} -Force", word(&remote), word(destination));
    let done = powershell(inner, &format!("upload {destination}"), &text).await;
    // The whole folder goes with the build.
    let _ = tokio::fs::remove_file(&local).await;
    done
}

pub(super) async fn upload_dir(
    inner: &Inner,
    cx: &Context,
    shared: &Shared,
    source: &Path,
    destination: &str,
    exclude: &Globs,
) -> Result<()> {
    let tree = LocalTree::read(cx, source, exclude, Links::Followed).await?;
    let (local, remote) = meeting_point(shared);
    let top = local.join(tree.name.as_deref().unwrap_or_default());
    let copied = top.clone();
    cx.blocking(move |stop| {
        std::fs::create_dir_all(&copied).map_err(|e| Error::io("mkdir", &copied, e))?;
        for entry in &tree.entries {
            stop.check()?;
            let to = copied.join(&entry.relative);
            match entry.size {
                None => std::fs::create_dir_all(&to).map_err(|e| Error::io("mkdir", &to, e))?,
                Some(_) => {
                    std::fs::copy(&entry.path, &to).map_err(|e| Error::io("open", &entry.path, e))?;
                }
            }
        }
        Ok(())
    })
    .await?;
    let text = format!(
        "New-Item -ItemType Directory -Force -Path {to} | Out-Null; Copy-Item -Path ({from} + '/*') -Destination {to} -Recurse -Force",
        from = word(&remote),
        to = word(destination)
    );
    let done = powershell(inner, &format!("upload {destination}"), &text).await;
    let _ = tokio::fs::remove_dir_all(&local).await;
    done
}

pub(super) async fn download(
    inner: &Inner,
    shared: &Shared,
    source: &str,
    sink: &mut (dyn AsyncWrite + Send + Unpin),
) -> Result<()> {
    let (local, remote) = meeting_point(shared);
    let text = format!("Copy-Item -Path {} -Destination {} -Force", word(source), word(&remote));
    powershell(inner, &format!("download {source}"), &text).await?;
    let failed = |e| Error::io("open", &local, e);
    let mut file = tokio::fs::File::open(&local).await.map_err(failed)?;
    tokio::io::copy(&mut file, sink).await.map_err(failed)?;
    sink.flush().await.map_err(failed)?;
    drop(file);
    let _ = tokio::fs::remove_file(&local).await;
    Ok(())
}

/// A new name in the shared folder, for here and for there.
fn meeting_point((local, remote): &Shared) -> (PathBuf, String) {
    let name = uuid::Uuid::new_v4().simple().to_string();
    (local.join(&name), format!("{}/{name}", remote.trim_end_matches('/')))
}

async fn powershell(inner: &Inner, what: &str, text: &str) -> Result<()> {
    // Otherwise PowerShell would go on after an error and end with code 0.
    let text = format!("$ErrorActionPreference = 'Stop'; {text}");
    let mut complaint = Kept::complaint();
    let command = Command::new(&text).stderr(&mut complaint);
    let status = exec::run(inner, shell(&text), String::new(), command).await?;
    if status.success() {
        return Ok(());
    }
    Err(Error::guest(format!("{what}: {} (exit code {})", complaint.text(), status.code())))
}

/// A text as PowerShell takes it literally.
fn word(text: &str) -> String {
    format!("'{}'", text.replace('\'', "''"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn texts_stay_words() {
        assert_eq!(word("C:/it's $here"), "'C:/it''s $here'");
        assert_eq!(shell("Get-Date"), ["powershell", "Get-Date"]);
    }

    #[test]
    fn both_sides_meet_under_one_name() {
        let (here, there) = meeting_point(&("/tmp/x".into(), "c:/packer-files/".into()));
        assert_eq!(here.file_name().and_then(|n| n.to_str()), there.strip_prefix("c:/packer-files/"));
    }
}
