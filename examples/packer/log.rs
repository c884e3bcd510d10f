//! The log that `PACKER_LOG` and `PACKER_LOG_PATH` ask for: what the program does, and every event of a run but what it
//! shows to people.

use std::collections::BTreeMap;
use std::fs::File;
use std::io::Write;
use std::sync::{Arc, Mutex, PoisonError};

use packer_core::{Error, Event, EventKind, EventSink};
use tokio::sync::mpsc::UnboundedReceiver;

use crate::on_a_thread;

/// Where the log goes; nowhere where none is asked for. Cheap to clone.
#[derive(Clone)]
pub(crate) struct Log(Option<Arc<Mutex<Box<dyn Write + Send>>>>);

impl Log {
    /// The log that the environment asks for. `None` where it cannot be written or a signal came first, which has been said
    /// on `stderr` then.
    pub(crate) async fn open(
        env: &BTreeMap<String, String>,
        mut stderr: Box<dyn Write + Send>,
        signals: &mut UnboundedReceiver<&'static str>,
    ) -> Option<Self> {
        let set = |name: &str| env.get(name).filter(|value| !value.is_empty());
        let Some(path) = set("PACKER_LOG_PATH").cloned() else {
            let wanted = set("PACKER_LOG").is_some_and(|on| on != "0");
            return Some(Self(wanted.then(|| Arc::new(Mutex::new(stderr)))));
        };
        let name = path.clone();
        let failure = tokio::select! {
            // Opening a pipe waits for whoever reads it.
            opened = on_a_thread(move || File::create(&name)) => match opened {
                Some(Ok(file)) => return Some(Self(Some(Arc::new(Mutex::new(Box::new(file)))))),
                Some(Err(error)) => format!("the log, PACKER_LOG_PATH: {}", Error::io("open", &path, error)),
                None => "the log could not be opened".to_owned(),
            },
            Some(reason) = signals.recv() => format!("stopped by {reason}"),
        };
        // Nobody is left to tell that nobody reads.
        let _ = stderr.write_all(format!("packer: {failure}\n").as_bytes()).and_then(|()| stderr.flush());
        None
    }

    /// Whether anybody reads it.
    pub(crate) fn is_on(&self) -> bool {
        self.0.is_some()
    }

    /// Adds what the program itself does. No argument is in it: arguments may be secrets.
    pub(crate) fn add(&self, text: &str) {
        self.line(jiff::Timestamp::now(), "packer", text);
    }

    fn line(&self, time: jiff::Timestamp, whose: &str, text: &str) {
        let Some(writer) = &self.0 else { return };
        let time = time.strftime("%Y/%m/%d %H:%M:%S");
        let mut writer = writer.lock().unwrap_or_else(PoisonError::into_inner);
        // A log that cannot be written any more is no reason to stop.
        let _ =
            writer.write_all(format!("{time} [{whose}] {text}\n").as_bytes()).and_then(|()| writer.flush());
    }
}

impl EventSink for Log {
    fn event(&self, event: &Event) {
        if !self.is_on() || matches!(event.kind, EventKind::Say { .. } | EventKind::Output { .. }) {
            return;
        }
        let kind = serde_json::to_string(&event.kind).unwrap_or_default();
        self.line(event.time, event.build.as_deref().unwrap_or("run"), &kind);
    }
}
