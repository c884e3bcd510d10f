//! What the program says outside of a run, and the sinks for what a run says: as Packer does for people or
//! for programs, or as JSON lines.

use std::collections::BTreeMap;
use std::io::{self, Write};
use std::sync::{Arc, Mutex, PoisonError};

use packer_core::diagnostic::{packer_layout_all, snippet_layout};
use packer_core::event::{JsonLines, MachineReadable, PackerLines, machine_line};
use packer_core::{Diagnostics, EventSink};

use crate::progress::Bars;

/// How the program talks.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Format {
    /// Packer's lines for people.
    Human,
    /// Packer's lines for programs.
    Machine,
    /// One JSON object a line.
    Json,
}

/// A writer that several sinks share. Each write is whole: what others write comes before or after it.
#[derive(Clone)]
pub(crate) struct Out {
    writer: Arc<Mutex<Box<dyn Write + Send>>>,
    bars: Option<Bars>,
}

impl Out {
    pub(crate) fn new(writer: Box<dyn Write + Send>, bars: Option<Bars>) -> Self {
        Self { writer: Arc::new(Mutex::new(writer)), bars }
    }

    /// Whether a person looks at the output: only then there are bars.
    fn is_terminal(&self) -> bool {
        self.bars.is_some()
    }
}

impl Write for Out {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.write_all(bytes)?;
        Ok(bytes.len())
    }

    fn write_all(&mut self, bytes: &[u8]) -> io::Result<()> {
        let write = || {
            let mut writer = self.writer.lock().unwrap_or_else(PoisonError::into_inner);
            writer.write_all(bytes).and_then(|()| writer.flush())
        };
        match &self.bars {
            Some(bars) => bars.suspend(write),
            None => write(),
        }
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// The program's voice.
#[derive(Clone)]
pub(crate) struct Ui {
    pub(crate) format: Format,
    pub(crate) out: Out,
}

/// How a run's output for people looks.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Look {
    pub(crate) color: bool,
    pub(crate) timestamps: bool,
}

impl Ui {
    /// Says a text; a line end is added.
    pub(crate) fn say(&self, text: &str) {
        self.ui("say", text);
    }

    /// Says a text about a failure; a line end is added.
    pub(crate) fn error(&self, text: &str) {
        self.ui("error", text);
    }

    fn ui(&self, kind: &str, text: &str) {
        match self.format {
            Format::Human => self.line(text),
            Format::Machine => self.line(&machine_line(jiff::Timestamp::now(), "", "ui", [kind, text])),
            Format::Json => {
                let level = if kind == "error" { "error" } else { "info" };
                let (time, event) = (jiff::Timestamp::now().to_string(), "say");
                self.line(
                    &serde_json::json!({"time": time, "event": event, "level": level, "text": text})
                        .to_string(),
                );
            }
        }
    }

    /// Tells programs something; people are told nothing.
    pub(crate) fn machine(&self, category: &str, fields: &[&str]) {
        if self.format == Format::Machine {
            self.line(&machine_line(jiff::Timestamp::now(), "", category, fields));
        }
    }

    /// Shows findings, all as one message.
    pub(crate) fn diagnostics(&self, diagnostics: &Diagnostics) {
        if self.format == Format::Json {
            for diagnostic in diagnostics {
                let (time, event) = (jiff::Timestamp::now().to_string(), "diagnostic");
                self.line(
                    &serde_json::json!({"time": time, "event": event, "diagnostic": diagnostic}).to_string(),
                );
            }
        } else if !diagnostics.is_empty() {
            let kind = if diagnostics.has_errors() { "error" } else { "say" };
            // A person is shown the place in the line; what other programs read has Packer's own layout.
            match self.out.is_terminal() {
                true => diagnostics.iter().for_each(|d| self.ui(kind, &(snippet_layout(d, false) + "\n"))),
                false => self.ui(kind, &packer_layout_all(diagnostics)),
            }
        }
    }

    /// Puts out bytes as they are, in every format.
    pub(crate) fn raw(&self, bytes: &[u8]) {
        // Nobody is left to tell that nobody reads.
        let _ = self.out.clone().write_all(bytes);
    }

    fn line(&self, text: &str) {
        self.raw(format!("{text}\n").as_bytes());
    }

    /// The sink for a run's events.
    pub(crate) fn sink(&self, look: Look, env: &BTreeMap<String, String>) -> Arc<dyn EventSink> {
        let out = self.out.clone();
        match self.format {
            Format::Machine => Arc::new(MachineReadable::new(out)),
            Format::Json => Arc::new(JsonLines::new(out)),
            Format::Human => {
                let mut lines = PackerLines::new(out).color(look.color);
                if env.contains_key("PACKER_NO_COLOR") {
                    lines = lines.no_escapes();
                }
                if look.timestamps {
                    lines = lines.timestamps(jiff::tz::TimeZone::system());
                }
                Arc::new(lines)
            }
        }
    }
}
