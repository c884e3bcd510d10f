//! One download for many builds: whoever makes a file has it for itself, in this run and among all processes.

use std::collections::BTreeMap;
use std::fs::File;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use tokio::sync::OwnedMutexGuard;

use crate::context::Context;
use crate::error::{Error, Result};
use crate::kit::lock_file::{Locked, try_lock};

/// How often another process is looked at.
const PAUSE: Duration = Duration::from_millis(200);

/// A file is ours to make for as long as this lives.
#[derive(Debug)]
pub(super) struct Turn {
    // The other processes' lock is given back before the next build of this run has its turn.
    _processes: Option<File>,
    _run: OwnedMutexGuard<()>,
}

/// Whose turn it is at files that several builds of the run may make.
#[derive(Default)]
struct Turns(Mutex<BTreeMap<PathBuf, Arc<tokio::sync::Mutex<()>>>>);

/// Waits until nobody else makes `target`; says so once.
pub(super) async fn turn(cx: &Context, target: &Path) -> Result<Turn> {
    let mut told = false;
    let mut tell = || {
        if !std::mem::replace(&mut told, true) {
            cx.say(format!("Waiting for somebody else who is at {}", target.display()));
        }
    };
    let absolute = std::path::absolute(target).unwrap_or_else(|_| target.to_owned());
    let turns = cx.of_run::<Turns>();
    let mutex = turns.0.lock().unwrap_or_else(PoisonError::into_inner).entry(absolute).or_default().clone();
    let run = match mutex.clone().try_lock_owned() {
        Ok(run) => run,
        Err(_) => {
            tell();
            cx.until_cancelled(async { Ok(mutex.lock_owned().await) }).await?
        }
    };
    let path = beside(target, ".lock");
    loop {
        match try_lock(&path).map_err(|e| Error::io("open", &path, e))? {
            Locked::Ours(file) => return Ok(Turn { _processes: Some(file), _run: run }),
            Locked::Unknown => return Ok(Turn { _processes: None, _run: run }),
            Locked::Theirs => {
                tell();
                cx.sleep(PAUSE).await?;
            }
        }
    }
}

/// The path of a file beside another.
pub(super) fn beside(target: &Path, ending: &str) -> PathBuf {
    let mut name = target.as_os_str().to_owned();
    name.push(ending);
    name.into()
}
