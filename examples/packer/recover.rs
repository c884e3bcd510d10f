//! `packer recover`: removes what runs have left that were killed or told to leave it. Not one of Packer's commands.

use std::path::{Path, PathBuf};

use packer_core::Event;
use packer_core::engine::{LedgerState, Recovery};
use tokio::sync::mpsc;

use crate::flags;
use crate::ui::Look;
use crate::{FAILED, OK, Session, registry};

pub(crate) const USAGE: &str = "Usage: packer recover [LEDGER...]

  Removes what is still in the ledgers of runs that were killed, aborted or told to abandon cleanup: machines, images,
  temporary files, local scripts that go on. Without arguments all ledgers in the cache folder are worked through; those of
  runs that still go on are left alone. What is no ledger is left as it is. Files left on machines that were there
  before, and that cannot be entered from here, are named once.
";

pub(crate) async fn run(mut session: Session, args: Vec<String>) -> u8 {
    let mut signals = std::mem::replace(&mut session.signals, mpsc::unbounded_channel().1);
    let paths: Vec<PathBuf> = match flags::parse(&args, &mut []) {
        Ok([]) => match session.ledgers().files() {
            Ok(files) => files,
            Err(error) => {
                session.ui.error(&error.to_string());
                return FAILED;
            }
        },
        Ok(named) => named.iter().map(PathBuf::from).collect(),
        Err(stop) => return session.misused(stop),
    };
    if paths.is_empty() {
        session.ui.say("There is nothing to recover.");
    }
    let sink = session.ui.sink(Look { color: false, timestamps: false }, &session.env);
    let engine = session.engine().events(move |event: &Event| sink.event(event));
    let recovery = engine.recovery(&registry());
    let control = recovery.control();
    let work = async {
        let mut all_gone = true;
        for path in paths {
            all_gone &= recover(&session, &recovery, &path).await;
        }
        all_gone
    };
    tokio::pin!(work);
    let mut stopped = false;
    loop {
        tokio::select! {
            all_gone = &mut work => return if all_gone && !stopped { OK } else { FAILED },
            Some(reason) = signals.recv() => {
                control.cancel();
                if stopped {
                    return FAILED;
                }
                stopped = true;
                session.ui.error(&format!("Stopped by {reason}. What was not removed stays in its ledger."));
            }
        }
    }
}

/// Works through one ledger; whether nothing is left in it.
async fn recover(session: &Session, recovery: &Recovery, path: &Path) -> bool {
    let ledger = recovery.file(path).await;
    for fault in &ledger.faults {
        session.ui.error(fault);
    }
    for resource in &ledger.report.released {
        session.ui.say(&format!("Removed {resource}"));
    }
    match ledger.state {
        // The run that has it open will see to it itself.
        LedgerState::InUse => {
            session.ui.say(&format!("Left alone: the ledger {} is in use by another run", path.display()));
            true
        }
        LedgerState::Finished => ledger.report.left.is_empty(),
        _ => false,
    }
}
