//! `packer recover`: removes what runs have left that were killed or told to leave it. Not one of Packer's commands.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use packer_core::{Event, FileLedger, Ledger};
use tokio::sync::mpsc;

use crate::flags;
use crate::ui::Look;
use crate::{FAILED, OK, Session, registry};

pub(crate) const USAGE: &str = "Usage: packer recover [LEDGER...]

  Removes what is still in the ledgers of runs that were killed, aborted or told to abandon cleanup: machines, images,
  temporary files. Without arguments all ledgers in the cache folder are worked through; those of runs that
  still go on are left alone.
";

pub(crate) async fn run(mut session: Session, args: Vec<String>) -> u8 {
    let mut signals = std::mem::replace(&mut session.signals, mpsc::unbounded_channel().1);
    let paths: Vec<PathBuf> = match flags::parse(&args, &mut []) {
        Ok([]) => ledgers(&session.ledger_folder()),
        Ok(named) => named.iter().map(PathBuf::from).collect(),
        Err(stop) => return session.misused(stop),
    };
    if paths.is_empty() {
        session.ui.say("There is nothing to recover.");
    }
    let work = async {
        let mut all_gone = true;
        for path in paths {
            all_gone &= recover(&session, &path).await;
        }
        all_gone
    };
    tokio::select! {
        all_gone = work => if all_gone { OK } else { FAILED },
        Some(reason) = signals.recv() => {
            session.ui.error(&format!("Stopped by {reason}. What was not removed stays in its ledger."));
            FAILED
        }
    }
}

/// The ledgers in a folder, oldest first.
fn ledgers(folder: &Path) -> Vec<PathBuf> {
    let entries = std::fs::read_dir(folder).into_iter().flatten().flatten();
    let mut paths: Vec<PathBuf> =
        entries.map(|e| e.path()).filter(|p| p.extension().is_some_and(|e| e == "jsonl")).collect();
    paths.sort();
    paths
}

/// Works through one ledger; whether nothing is left in it.
async fn recover(session: &Session, path: &Path) -> bool {
    // Opening makes what is not there.
    let opened = match path.try_exists() {
        Ok(true) => FileLedger::open(path),
        Ok(false) => Err(packer_core::Error::io("open", path, std::io::ErrorKind::NotFound.into())),
        Err(e) => Err(packer_core::Error::io("open", path, e)),
    };
    let ledger = match opened {
        Ok(ledger) => Arc::new(ledger),
        // The run that has it open will see to it itself.
        Err(error) if error.is_retryable() => {
            session.ui.say(&format!("Left alone: {error}"));
            return true;
        }
        Err(error) => {
            session.ui.error(&error.to_string());
            return false;
        }
    };
    let sink = session.ui.sink(Look { color: false, timestamps: false }, &session.env);
    let engine = session.engine().events(move |event: &Event| sink.event(event));
    let report = engine.recover(ledger.clone(), &registry()).await;
    for resource in &report.released {
        session.ui.say(&format!("Removed {resource}"));
    }
    if ledger.outstanding().is_empty() {
        drop(ledger);
        let _ = std::fs::remove_file(path);
        return true;
    }
    false
}
