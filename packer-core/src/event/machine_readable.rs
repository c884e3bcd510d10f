//! Packer's output for programs: `-machine-readable` lines, byte for byte.

use std::fmt;
use std::io::Write;
use std::sync::{Mutex, PoisonError};

use jiff::Timestamp;

use super::transcript::{Entry, Transcript};
use super::{Event, EventSink, Level};

/// A sink that writes `UNIXSECONDS,TARGET,CATEGORY,DATA…` lines.
///
/// A writer that fails is written to no more.
pub struct MachineReadable<W>(Mutex<(Transcript, Option<W>)>);

impl<W: Write + Send> MachineReadable<W> {
    /// Lines into `writer`.
    pub fn new(writer: W) -> Self {
        Self(Mutex::new((Transcript::new(), Some(writer))))
    }
}

impl<W: Write + Send> EventSink for MachineReadable<W> {
    fn event(&self, event: &Event) {
        let mut state = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let (transcript, writer) = &mut *state;
        let mut text = String::new();
        for entry in transcript.entries(event) {
            match &entry {
                Entry::Say { level, text: said, .. } => {
                    let kind = if *level == Level::Error { "error" } else { "say" };
                    text.push_str(&machine_line(event.time, "", "ui", [kind, said]));
                }
                Entry::Data { target, category, fields } => {
                    text.push_str(&machine_line(event.time, target, category, fields));
                }
                Entry::Legend { .. } => continue,
            }
            text.push('\n');
        }
        if text.is_empty() {
            return;
        }
        if let Some(open) = writer
            && open.write_all(text.as_bytes()).and_then(|()| open.flush()).is_err()
        {
            *writer = None;
        }
    }
}

impl<W> fmt::Debug for MachineReadable<W> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("MachineReadable")
    }
}

/// One line without its end. In the data a comma is `%!(PACKER_COMMA)`, a line end is the two characters `\n`.
///
/// ```
/// use packer_core::event::machine_line;
/// let line = machine_line(jiff::Timestamp::UNIX_EPOCH, "", "ui", ["say", "a, b\n"]);
/// assert_eq!(line, r"0,,ui,say,a%!(PACKER_COMMA) b\n");
/// ```
pub fn machine_line<S: AsRef<str>>(
    time: Timestamp,
    target: &str,
    category: &str,
    data: impl IntoIterator<Item = S>,
) -> String {
    let mut line = format!("{},{target},{category}", time.as_second());
    for field in data {
        line.push(',');
        for c in field.as_ref().chars() {
            match c {
                ',' => line.push_str("%!(PACKER_COMMA)"),
                '\r' => line.push_str("\\r"),
                '\n' => line.push_str("\\n"),
                c => line.push(c),
            }
        }
    }
    line
}

#[cfg(test)]
mod tests {
    use super::super::transcript::tests::two_builds;
    use super::*;

    #[test]
    fn lines_of_a_run() {
        let mut out = Vec::new();
        {
            let sink = MachineReadable::new(&mut out);
            two_builds().iter().for_each(|e| sink.event(e));
        }
        let expected = r"0,,ui,say,Warning: W\n\nD.\n\n
2,,ui,say,==> null.a: one\n==> null.a:  two \n==> null.a: \n==> null.a:
3,,ui,error,==> b.null.b: oh%!(PACKER_COMMA) no
4,,ui,say,==> null.a (compress): packing
6,,ui,error,Build 'b.null.b' errored after 1 second: E\nF
7,,ui,say,Build 'null.a' finished after 1 minute 30 seconds.
8,,ui,say,\n==> Wait completed after 2 seconds
8,,error-count,1
8,,ui,error,\n==> Some builds didn't complete successfully and had errors:
8,b.null.b,error,E\nF
8,,ui,error,--> b.null.b: E\nF
8,,ui,say,\n==> Builds finished. The artifacts of successful builds are:
8,null.a,artifact-count,2
8,null.a,artifact,0,builder-id,n
8,null.a,artifact,0,id,
8,null.a,artifact,0,string,Nothing
8,null.a,artifact,0,files-count,0
8,null.a,artifact,0,end
8,,ui,say,--> null.a: Nothing
8,null.a,artifact,1,builder-id,packer.file
8,null.a,artifact,1,id,File
8,null.a,artifact,1,string,Stored file: a%!(PACKER_COMMA)1
8,null.a,artifact,1,files-count,1
8,null.a,artifact,1,file,0,a%!(PACKER_COMMA)1
8,null.a,artifact,1,end
8,,ui,say,--> null.a: Stored file: a%!(PACKER_COMMA)1
";
        assert_eq!(String::from_utf8(out).unwrap(), expected);
    }
}
