//! The folder in which the ledgers of runs lie: how they are called, and which of them are there.

use std::fs;
use std::path::{Path, PathBuf};

use super::FileLedger;
use crate::error::{Error, Result};

/// The folder in which runs keep their ledgers, one file each. A host says where it is; the rest is done here and by
/// [`Engine::recover_all`](crate::Engine::recover_all).
///
/// ```
/// use packer_core::{Engine, LedgerFolder, Registry};
/// # #[tokio::main(flavor = "current_thread")]
/// # async fn main() -> packer_core::Result<()> {
/// # let dir = tempfile::tempdir().unwrap();
/// # let registry = Registry::new();
/// let ledgers = LedgerFolder::at(dir.path().join("ledger"));
/// // Each run of this engine gets a ledger of its own, which goes when nothing is left in it.
/// let engine = Engine::new().ledger_folder(ledgers.clone());
/// // Later, perhaps in another process: releases what runs have left that were killed.
/// let report = engine.recover_all(&ledgers, &registry).await?;
/// assert!(report.all_gone());
/// # Ok(())
/// # }
/// ```
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LedgerFolder(PathBuf);

/// What opening a ledger of a folder led to.
#[derive(Debug)]
#[non_exhaustive]
pub enum Found {
    /// It is open, and nobody else has it.
    Open(FileLedger),
    /// A run that goes on has it open and will see to it itself.
    InUse,
    /// Somebody else, who found nothing in it any more, has removed it meanwhile.
    Gone,
    /// It cannot be opened.
    Unusable(Error),
}

impl LedgerFolder {
    /// The ledgers in this folder, which the first run makes.
    pub fn at(path: impl Into<PathBuf>) -> Self {
        Self(path.into())
    }

    /// Where it is.
    pub fn path(&self) -> &Path {
        &self.0
    }

    /// Makes the ledger of a new run. Nobody but its owner may look into the folder, where it is new, or into the ledger.
    ///
    /// # Errors
    /// Where it cannot be made.
    pub fn create(&self) -> Result<FileLedger> {
        let mut builder = fs::DirBuilder::new();
        builder.recursive(true);
        #[cfg(unix)]
        std::os::unix::fs::DirBuilderExt::mode(&mut builder, 0o700);
        builder.create(&self.0).map_err(|e| Error::io("mkdir", &self.0, e))?;
        let now = jiff::Timestamp::now().strftime("%Y%m%dT%H%M%S%.9fZ").to_string();
        let unique = uuid::Uuid::new_v4().simple().to_string();
        let name = format!("{now}-{}-{}.jsonl", std::process::id(), &unique[..8]);
        FileLedger::open(self.0.join(name))
    }

    /// The files that have the name of a ledger, oldest first. A folder that is not there has none.
    ///
    /// # Errors
    /// Where the folder cannot be read.
    pub fn files(&self) -> Result<Vec<PathBuf>> {
        let fail = |e| Error::io("open", &self.0, e);
        let entries = match fs::read_dir(&self.0) {
            Err(e) if e.kind() == std::io::ErrorKind::NotFound => return Ok(Vec::new()),
            entries => entries.map_err(fail)?,
        };
        let mut found = Vec::new();
        for entry in entries {
            let entry = entry.map_err(fail)?;
            if entry.file_name().to_str().is_some_and(is_ours) {
                found.push(entry.path());
            }
        }
        found.sort();
        Ok(found)
    }

    /// Opens one of its files for recovery.
    pub fn open(&self, file: &Path) -> Found {
        match FileLedger::open_existing(file) {
            Ok(ledger) => Found::Open(ledger),
            Err(error) if error.is_retryable() => Found::InUse,
            Err(_) if file.symlink_metadata().is_err_and(|e| e.kind() == std::io::ErrorKind::NotFound) => {
                Found::Gone
            }
            Err(error) => Found::Unusable(error),
        }
    }
}

/// Whether a file is called as ledgers are: `20260131T120000.000000001Z-4711-0f3a9c21.jsonl`.
fn is_ours(name: &str) -> bool {
    let Some((time, rest)) = name.strip_suffix(".jsonl").and_then(|name| name.split_once("Z-")) else {
        return false;
    };
    let digits = |text: &str| !text.is_empty() && text.bytes().all(|b| b.is_ascii_digit());
    let time_is = time.split_once('T').is_some_and(|(day, time)| {
        let time =
            time.split_once('.').map_or(time, |(seconds, nanos)| if digits(nanos) { seconds } else { "" });
        digits(day) && day.len() == 8 && digits(time) && time.len() == 6
    });
    let (process, unique) = rest.split_once('-').unwrap_or((rest, "0"));
    time_is && digits(process) && unique.bytes().all(|b| b.is_ascii_hexdigit())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ledger::{Ledger, Resource};
    use crate::testing::TempFolder;

    #[test]
    fn only_what_is_called_as_a_ledger_is_one() {
        for name in
            ["20260131T120000.5Z-1.jsonl", "20260131T120000Z-77.jsonl", "20260131T120000.1Z-1-0af9.jsonl"]
        {
            assert!(is_ours(name), "{name}");
        }
        for name in
            ["notes.jsonl", "20260131T120000Z-1.json", "2026T1Z-1.jsonl", "20260131T120000Z-x.jsonl", ""]
        {
            assert!(!is_ours(name), "{name}");
        }
    }

    #[test]
    fn each_run_gets_a_ledger_of_its_own_and_strange_files_are_none() {
        let dir = TempFolder::new();
        let folder = LedgerFolder::at(dir.path().join("a/b"));
        assert!(folder.files().unwrap().is_empty());
        let (one, two) = (folder.create().unwrap(), folder.create().unwrap());
        fs::write(folder.path().join("mine.jsonl"), "").unwrap();
        let mut expected = [one.path().to_owned(), two.path().to_owned()];
        expected.sort();
        assert_eq!(folder.files().unwrap(), expected);
        assert!(matches!(folder.open(one.path()), Found::InUse));
        one.record(&Resource::file("/x")).unwrap();
        let path = one.path().to_owned();
        drop(one);
        assert!(matches!(folder.open(&path), Found::Open(ledger) if ledger.outstanding().len() == 1));
        let path = two.path().to_owned();
        assert!(two.finish().unwrap());
        assert!(matches!(folder.open(&path), Found::Gone));
        #[cfg(unix)]
        {
            use std::os::unix::fs::PermissionsExt;
            assert_eq!(fs::metadata(folder.path()).unwrap().permissions().mode() & 0o777, 0o700);
        }
    }
}
