//! The log that `PACKER_LOG` and `PACKER_LOG_PATH` ask for: every event of a run but what it shows to people.

use std::collections::BTreeMap;
use std::fs::File;
use std::io::{self, Write};
use std::sync::{Arc, Mutex, PoisonError};

use packer_core::{Event, EventKind, EventSink};

/// The sink that logs, where the environment asks for one.
pub(crate) fn sink(
    env: &BTreeMap<String, String>,
    stderr: Box<dyn Write + Send>,
) -> io::Result<Option<Arc<dyn EventSink>>> {
    let writer: Box<dyn Write + Send> = match env.get("PACKER_LOG_PATH").filter(|path| !path.is_empty()) {
        Some(path) => Box::new(File::create(path)?),
        None if env.get("PACKER_LOG").is_some_and(|on| !on.is_empty() && on != "0") => stderr,
        None => return Ok(None),
    };
    Ok(Some(Arc::new(Log(Mutex::new(writer)))))
}

struct Log(Mutex<Box<dyn Write + Send>>);

impl EventSink for Log {
    fn event(&self, event: &Event) {
        if matches!(event.kind, EventKind::Say { .. } | EventKind::Output { .. }) {
            return;
        }
        let build = event.build.as_deref().unwrap_or("run");
        let time = event.time.strftime("%Y/%m/%d %H:%M:%S");
        let kind = serde_json::to_string(&event.kind).unwrap_or_default();
        let mut writer = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        // A log that cannot be written is no reason to stop.
        let _ =
            writer.write_all(format!("{time} [{build}] {kind}\n").as_bytes()).and_then(|()| writer.flush());
    }
}
