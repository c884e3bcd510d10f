//! Folders as one archive that `tar` on the machine packs or unpacks: for many small files nothing is faster.

use std::io::{self, BufWriter, Read, Write};
use std::path::Path;

use tokio::io::AsyncReadExt;
use tokio_util::io::SyncIoBridge;

use super::super::archive::{Layout, Told, pattern, quoted, quoted_text, unpack};
use super::super::posix::program_on_input;
use super::super::tree::LocalTree;
use super::super::{Command, Globs};
use super::{Ssh, base_name};
use crate::context::Context;
use crate::error::{Error, Result, os_text};

/// What may be on the way between a command and the thread that reads or writes the archive.
const PIPE: usize = 1 << 20;
/// From how many files on, and up to which mean size, an archive is faster than files by SFTP.
const MANY: u64 = 32;
const SMALL: u64 = 256 << 10;

/// Whether so many files of so many bytes go faster as an archive.
pub(super) fn is_worth_it(files: usize, bytes: u64) -> bool {
    files as u64 >= MANY && bytes / files as u64 <= SMALL
}

/// A machine's program that begins by looking for `tar`.
fn program(rest: &str) -> String {
    format!("command -v tar >/dev/null || {{ echo the machine has no tar >&2; exit 127; }}\n{rest}\n")
}

impl Ssh {
    /// Copies a folder, by the rules of [`upload_dir`](super::super::Communicator::upload_dir). Where it fails, nothing is
    /// there that was not before, but for what a folder that was there has got.
    pub(super) async fn upload_archive(
        &self,
        cx: &Context,
        tree: LocalTree,
        destination: &str,
        bits: Bits,
    ) -> Result<()> {
        let program = program(&unpacking(&tree, destination, bits));
        let title = tree.name.clone().unwrap_or_else(|| base_name(destination).to_owned());
        let mut progress = cx.progress(title, Some(tree.total));
        let (reader, writer) = tokio::io::simplex(PIPE);
        let packing = cx.blocking(move |stop| {
            let mut archive =
                tar::Builder::new(BufWriter::with_capacity(PIPE / 4, SyncIoBridge::new(writer)));
            let now = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH);
            let now = now.map_or(0, |now| now.as_secs());
            for entry in &tree.entries {
                stop.check()?;
                let failed = |e: io::Error| Error::io("open", &entry.path, e);
                let mut header = tar::Header::new_gnu();
                header.set_mode(entry.mode);
                header.set_mtime(now);
                header.set_size(entry.size.unwrap_or(0));
                let Some(size) = entry.size else {
                    header.set_entry_type(tar::EntryType::Directory);
                    archive.append_data(&mut header, &entry.relative, io::empty()).map_err(failed)?;
                    continue;
                };
                let mut file = std::fs::File::open(&entry.path).map_err(failed)?.take(size);
                archive.append_data(&mut header, &entry.relative, &mut file).map_err(failed)?;
                if file.limit() > 0 {
                    let why = "it became shorter while it was uploaded";
                    return Err(Error::user(format!("{}: {why}", entry.path.display())));
                }
            }
            let failed = |e: io::Error| Error::provider(os_text(&e));
            let mut pipe = archive.into_inner().map_err(failed)?;
            pipe.flush().map_err(failed)?;
            pipe.get_mut().shutdown().map_err(failed)
        });
        let mut input = AsyncReadExt::chain(program.as_bytes(), reader);
        let mut input = Told { inner: &mut input, progress: Some(&mut progress) };
        let what = format!("upload {destination}");
        let command = Command::new(program_on_input(program.len())).stdin(&mut input);
        let (packed, unpacked) = first_failure(packing, self.plain(&what, command)).await;
        // What was wrong here comes first: the command fails for want of the rest.
        match packed {
            Err(e) if e.is_cancelled() || e.fault() == crate::error::Fault::User => Err(e),
            packed => unpacked.and(packed),
        }
    }

    /// Copies what `source` names into a local folder, by the rules of
    /// [`download_dir`](super::super::Communicator::download_dir); `total` is how many bytes that are, where it is known.
    pub(super) async fn download_archive(
        &self,
        cx: &Context,
        source: &str,
        destination: &Path,
        exclude: &Globs,
        total: Option<u64>,
    ) -> Result<()> {
        let base = base_name(source);
        let contents = source.ends_with('/') || matches!(base, "." | ".." | "/");
        let (folder, what) = match source.trim_end_matches('/').rsplit_once('/') {
            _ if contents => (quoted(source), ".".to_owned()),
            Some(("", _)) => ("/".to_owned(), pattern(base)),
            Some((parent, _)) => (quoted(parent), pattern(base)),
            None => (".".to_owned(), pattern(base)),
        };
        let program = program(&format!("cd {folder} && exec tar -chf - {what}"));
        let mut progress = cx.progress(base, total);
        let (reader, mut writer) = tokio::io::simplex(PIPE);
        let (destination, exclude) = (destination.to_path_buf(), exclude.clone());
        let layout = if contents { Layout::Contents } else { Layout::Folder };
        let unpacking = cx.blocking(move |stop| {
            let reader = io::BufReader::with_capacity(PIPE / 4, SyncIoBridge::new(reader));
            unpack(stop, reader, &destination, layout, &exclude)
        });
        let packing = async {
            let mut sink = Told { inner: &mut writer, progress: Some(&mut progress) };
            let mut input = program.as_bytes();
            let command = Command::new(program_on_input(program.len())).stdin(&mut input).stdout(&mut sink);
            let result = self.plain(&format!("download {source}"), command).await;
            // The end of the archive: without it the unpacking would wait on.
            drop(writer);
            result
        };
        let (unpacked, packed) = first_failure(unpacking, packing).await;
        packed.and(unpacked)
    }
}

/// Whose permission bits files and folders have that are there.
#[derive(Clone, Copy, PartialEq)]
pub(super) enum Bits {
    /// Their own.
    Kept,
    /// Those of their copies. Only into folders where nothing is.
    Given,
}

/// What unpacks an archive of the tree's entries on the machine.
fn unpacking(tree: &LocalTree, destination: &str, bits: Bits) -> String {
    let (into, mode) = (quoted(destination), tree.mode);
    let named = match &tree.name {
        Some(name) => format!("if [ -d \"$d\" ]; then d=\"$d\"/{}; fi", quoted_text(name)),
        None => String::new(),
    };
    let given = match (bits, &tree.name) {
        (Bits::Given, Some(_)) => format!("chmod {mode:o} \"$d\""),
        _ => ":".to_owned(),
    };
    let over = match bits {
        Bits::Given => "echo there is something in it >&2; exit 1".to_owned(),
        // `tar` would put new files in the places of old ones, which may be links or somebody else's.
        Bits::Kept => format!(
            "t=\"$d\"/.packer-{}\n\
             trap 'rm -rf \"$t\"' EXIT\n\
             mkdir -m 700 \"$t\" && tar -C \"$t\" -xpof - || exit\n\
             umask 0\n\
             cp -R \"$t\"/. \"$d\"/ || exit",
            uuid::Uuid::new_v4().simple()
        ),
    };
    format!(
        "d={into}\n\
         {named}\n\
         if [ ! -e \"$d\" ]; then\n\
         mkdir \"$d\" && chmod 700 \"$d\" || exit\n\
         tar -C \"$d\" -xpof - && chmod {mode:o} \"$d\" || {{ rm -rf \"$d\"; exit 1; }}\n\
         elif [ ! -d \"$d\" ]; then\n\
         echo it is a file, not a folder >&2; exit 1\n\
         elif [ -z \"$(ls -A \"$d\")\" ]; then\n\
         tar -C \"$d\" -xpof - && {given} || exit\n\
         else\n\
         {over}\n\
         fi"
    )
}

/// Runs both to their ends, but leaves the first where the second has failed: nobody serves its pipe any more.
async fn first_failure(
    local: impl Future<Output = Result<()>>,
    remote: impl Future<Output = Result<()>>,
) -> (Result<()>, Result<()>) {
    let (mut local, mut remote) = (std::pin::pin!(local), std::pin::pin!(remote));
    tokio::select! {
        biased;
        done = &mut remote => match done {
            Ok(()) => (local.await, Ok(())),
            Err(e) => (Ok(()), Err(e)),
        },
        done = &mut local => match done {
            Ok(()) => (Ok(()), remote.await),
            Err(e) => {
                // The command may be about to say why.
                let limit = std::time::Duration::from_secs(2);
                match tokio::time::timeout(limit, remote).await {
                    Ok(Err(why)) => (Err(e), Err(why)),
                    _ => (Err(e), Ok(())),
                }
            }
        },
    }
}
