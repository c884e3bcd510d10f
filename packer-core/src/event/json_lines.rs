//! Every event as one line of JSON.

use std::fmt;
use std::io::Write;
use std::sync::{Mutex, PoisonError};

use super::{Event, EventSink};

/// A sink that writes each event as a JSON object on a line of its own, for programs that want all there is to know:
/// `time` (RFC 3339), `sequence`, `build`, `post_processor`, `event` (the kind in snake case) and the kind's fields. Times
/// that something took are in `seconds`, an error is an object ([`ErrorInfo`](crate::ErrorInfo)). What is written is read
/// again as [`Event`]s:
///
/// ```
/// use packer_core::event::{Event, EventKind};
/// fn failures(lines: impl std::io::BufRead) -> impl Iterator<Item = String> {
///     let events = lines.lines().filter_map(|line| serde_json::from_str::<Event>(&line.ok()?).ok());
///     events.filter_map(|event| match event.kind {
///         EventKind::BuildFailed { error, .. } => Some(format!("{error} ({})", error.fault)),
///         _ => None,
///     })
/// }
/// # assert_eq!(failures(std::io::Cursor::new("{}\n")).count(), 0);
/// ```
///
/// A writer that fails is written to no more.
pub struct JsonLines<W>(Mutex<Option<W>>);

impl<W: Write + Send> JsonLines<W> {
    /// Lines into `writer`.
    pub fn new(writer: W) -> Self {
        Self(Mutex::new(Some(writer)))
    }
}

impl<W: Write + Send> EventSink for JsonLines<W> {
    fn event(&self, event: &Event) {
        // Events hold nothing that JSON cannot say: maps have text keys, numbers are finite.
        let Ok(mut line) = serde_json::to_vec(event) else { return };
        line.push(b'\n');
        let mut writer = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(open) = &mut *writer
            && open.write_all(&line).and_then(|()| open.flush()).is_err()
        {
            *writer = None;
        }
    }
}

impl<W> fmt::Debug for JsonLines<W> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("JsonLines")
    }
}

#[cfg(test)]
mod tests {
    use super::super::transcript::tests::two_builds;
    use super::*;

    #[test]
    fn each_event_is_an_object_that_names_its_kind() {
        let mut out = Vec::new();
        {
            let sink = JsonLines::new(&mut out);
            two_builds().iter().for_each(|e| sink.event(e));
        }
        let lines: Vec<serde_json::Value> = out
            .split(|b| *b == b'\n')
            .filter(|l| !l.is_empty())
            .map(|l| serde_json::from_slice(l).unwrap())
            .collect();
        assert_eq!(lines.len(), two_builds().len());
        let expected = serde_json::json!({
            "time": "1970-01-01T00:00:04Z", "sequence": 4, "build": "null.a", "post_processor": "compress",
            "event": "say", "level": "info", "text": "packing",
        });
        assert_eq!(lines[4], expected);
        assert_eq!(lines[8]["event"], "run_finished");
    }
}
