//! Packer's output for people: every event as the lines Packer would print, coloured and stamped where asked.

use std::fmt;
use std::io::Write;
use std::sync::{Mutex, PoisonError};

use jiff::Timestamp;
use jiff::tz::TimeZone;

use super::transcript::{Entry, Transcript};
use super::{Event, EventSink, Level};

/// A sink that writes what Packer prints: everything, errors too, to the one writer it is given.
///
/// Plain until [`color`](Self::color) is asked for. A writer that fails is written to no more: a run does not end
/// because nobody reads along.
///
/// What commands print goes through as it is; before a terminal stands [`ForTerminal`](super::ForTerminal).
///
/// ```
/// use packer_core::event::{ForTerminal, PackerLines};
/// let sink = PackerLines::new(ForTerminal::new(std::io::stderr())).color(true);
/// ```
pub struct PackerLines<W> {
    style: Style,
    state: Mutex<State<W>>,
}

struct State<W> {
    transcript: Transcript,
    /// `None` once it has failed.
    writer: Option<W>,
}

#[derive(Clone, Default)]
struct Style {
    legend: bool,
    escapes: bool,
    zone: Option<TimeZone>,
}

impl<W: Write + Send> PackerLines<W> {
    /// Plain lines into `writer`.
    pub fn new(writer: W) -> Self {
        let state = State { transcript: Transcript::new(), writer: Some(writer) };
        Self { style: Style::default(), state: Mutex::new(state) }
    }

    /// Gives each build's output its colour and says at the start which.
    #[must_use]
    pub fn color(mut self, color: bool) -> Self {
        (self.style.legend, self.style.escapes) = (color, color);
        self
    }

    /// Says which build has which colour, but leaves the colours out: Packer's output under `PACKER_NO_COLOR`.
    #[must_use]
    pub fn no_escapes(mut self) -> Self {
        self.style.escapes = false;
        self
    }

    /// Puts the time before each message of a build, in RFC 3339 as the clocks of `zone` show it.
    #[must_use]
    pub fn timestamps(mut self, zone: TimeZone) -> Self {
        self.style.zone = Some(zone);
        self
    }
}

impl<W: Write + Send> EventSink for PackerLines<W> {
    fn event(&self, event: &Event) {
        let mut state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        let mut text = String::new();
        for entry in state.transcript.entries(event) {
            self.style.render(&entry, event.time, &mut text);
        }
        if text.is_empty() {
            return;
        }
        if let Some(writer) = &mut state.writer
            && writer.write_all(text.as_bytes()).and_then(|()| writer.flush()).is_err()
        {
            state.writer = None;
        }
    }
}

impl<W> fmt::Debug for PackerLines<W> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("PackerLines").field("color", &self.style.escapes).finish_non_exhaustive()
    }
}

impl Style {
    fn render(&self, entry: &Entry, time: Timestamp, out: &mut String) {
        match entry {
            Entry::Data { .. } => return,
            Entry::Legend { build, text } if self.legend => {
                // The empty line behind the last one is outside of its colour.
                let line = text.trim_end_matches('\n');
                self.paint(build_color(*build), line, out);
                out.push_str(&text[line.len()..]);
            }
            Entry::Legend { .. } => return,
            Entry::Say { build: None, text, .. } => out.push_str(text),
            Entry::Say { level, build: Some(build), text } => {
                let color = if *level == Level::Error { RED } else { build_color(*build) };
                match &self.zone {
                    Some(zone) => self.paint(color, &format!("{}: {text}", rfc3339(time, zone)), out),
                    None => self.paint(color, text, out),
                }
            }
        }
        out.push('\n');
    }

    fn paint(&self, color: u8, text: &str, out: &mut String) {
        if self.escapes {
            out.push_str(&format!("\x1b[1;{color}m{text}\x1b[0m"));
        } else {
            out.push_str(text);
        }
    }
}

const RED: u8 = 31;

/// Green, cyan, magenta, yellow, blue, and again.
fn build_color(build: usize) -> u8 {
    const COLORS: [u8; 5] = [32, 36, 35, 33, 34];
    COLORS[build % COLORS.len()]
}

/// The time to the second as clocks of the zone show it, with its offset; `Z` for none.
fn rfc3339(time: Timestamp, zone: &TimeZone) -> String {
    let offset = zone.to_offset(time);
    if offset.seconds() == 0 {
        return time.strftime("%Y-%m-%dT%H:%M:%SZ").to_string();
    }
    time.to_zoned(zone.clone()).strftime("%Y-%m-%dT%H:%M:%S%:z").to_string()
}

#[cfg(test)]
mod tests {
    use super::super::transcript::tests::{events, two_builds};
    use super::*;
    use crate::event::EventKind;

    fn printed(sink: impl FnOnce(Shared) -> PackerLines<Shared>) -> String {
        let out = Shared::default();
        let sink = sink(out.clone());
        two_builds().iter().for_each(|e| sink.event(e));
        let bytes = out.0.lock().unwrap().clone();
        String::from_utf8(bytes).unwrap()
    }

    #[derive(Clone, Default)]
    struct Shared(std::sync::Arc<Mutex<Vec<u8>>>);

    impl Write for Shared {
        fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
            self.0.lock().unwrap().write(bytes)
        }
        fn flush(&mut self) -> std::io::Result<()> {
            Ok(())
        }
    }

    const PLAIN: &str = "Warning: W\n\nD.\n\n\n\
        ==> null.a: one\n\
        ==> null.a:  two \n\
        ==> null.a: \n\
        ==> null.a:\n\
        ==> b.null.b: oh, no\n\
        ==> null.a (compress): packing\n\
        Build 'b.null.b' errored after 1 second: E\nF\n\
        Build 'null.a' finished after 1 minute 30 seconds.\n\
        \n==> Wait completed after 2 seconds\n\
        \n==> Some builds didn't complete successfully and had errors:\n\
        --> b.null.b: E\nF\n\
        \n==> Builds finished. The artifacts of successful builds are:\n\
        --> null.a: Nothing\n\
        --> null.a: Stored file: a,1\n";

    #[test]
    fn plain() {
        // Only the end of a whole message loses its spaces.
        assert_eq!(
            printed(PackerLines::new),
            PLAIN.replace("null.a:\n==> null.a:\n", "null.a: \n==> null.a:\n")
        );
    }

    #[test]
    fn coloured_and_stamped() {
        let text =
            printed(|out| PackerLines::new(out).color(true).timestamps(TimeZone::fixed(jiff::tz::offset(2))));
        for part in [
            "\n\x1b[1;32mnull.a: output will be in this color.\x1b[0m\n",
            "\n\x1b[1;36mb.null.b: output will be in this color.\x1b[0m\n\n",
            "\n\x1b[1;32m1970-01-01T02:00:02+02:00: ==> null.a: one\n==> null.a:  two \n",
            "\n\x1b[1;31m1970-01-01T02:00:03+02:00: ==> b.null.b: oh, no\x1b[0m\n",
            "\n\x1b[1;31m1970-01-01T02:00:06+02:00: Build 'b.null.b' errored",
            "\n\n==> Wait completed after 2 seconds\n",
        ] {
            assert!(text.contains(part), "{part:?} in {text:?}");
        }
        let text = printed(|out| PackerLines::new(out).color(true).no_escapes().timestamps(TimeZone::UTC));
        assert!(text.contains("null.a: output will be in this color.\n"), "{text}");
        assert!(text.contains("\n1970-01-01T00:00:02Z: ==> null.a: one\n"), "{text}");
    }

    #[test]
    fn a_closed_writer_is_no_failure() {
        struct Closed;
        impl Write for Closed {
            fn write(&mut self, _: &[u8]) -> std::io::Result<usize> {
                Err(std::io::ErrorKind::BrokenPipe.into())
            }
            fn flush(&mut self) -> std::io::Result<()> {
                Ok(())
            }
        }
        let sink = PackerLines::new(Closed);
        let said = EventKind::Say { level: Level::Info, text: "x".into() };
        events(vec![(None, None, said.clone()), (None, None, said)]).iter().for_each(|e| sink.event(e));
        assert!(sink.state.lock().unwrap().writer.is_none());
    }
}
