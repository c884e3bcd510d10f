//! From the bytes a command prints to lines that are shown.

use std::io;
use std::ops::Range;
use std::pin::Pin;
use std::task::{self, Poll};

use tokio::io::AsyncWrite;

use crate::context::Context;
use crate::event::Level;
use crate::secrets::REDACTED;

/// The longest line that is held back for its end; a longer one is shown in pieces.
const LONGEST_LINE: usize = 256 * 1024;

/// Shows each line written to it as one output line of the build.
///
/// Of a line that overwrites itself (a progress bar with `\r`) only the last state is shown, space at its end
/// is dropped, and bytes that are no UTF-8 become replacement characters. A line of more than 256 KiB is shown in pieces;
/// a secret is hidden wherever it is cut. [`AsyncWrite::poll_shutdown`] shows an unfinished last line.
#[derive(Debug)]
pub struct LineWriter {
    cx: Context,
    level: Level,
    pending: Vec<u8>,
    /// How many bytes at the beginning belong to a secret that the piece before has hidden already.
    hidden: usize,
}

impl LineWriter {
    /// Lines go to the output of `cx` at this level.
    pub fn new(cx: Context, level: Level) -> Self {
        Self { cx, level, pending: Vec::new(), hidden: 0 }
    }

    /// Shows what is pending as the end of a line.
    fn show_line(&mut self) {
        // Whole lines, which are nearly all, are scrubbed with their event.
        let from = match self.hidden {
            0 => 0,
            _ => self.behind_hidden(&self.places()).0,
        };
        let line = String::from_utf8_lossy(&self.pending[from..]);
        self.show(line.trim_end());
        self.pending.clear();
        self.hidden = 0;
    }

    /// Shows the beginning of a line that is too long to wait for its end.
    ///
    /// What may be the beginning of a secret is held back, so that every secret that begins before the cut is here as a
    /// whole. One that lies across it is hidden in this piece, and its rest is left out of the next.
    fn show_piece(&mut self) {
        let held_back = self.cx.secrets().longest().saturating_sub(1);
        let Some(mut cut) = self.pending.len().checked_sub(held_back).filter(|cut| *cut > 0) else { return };
        // A character is not cut.
        while cut > 1 && cut < self.pending.len() && self.pending[cut] & 0xC0 == 0x80 {
            cut -= 1;
        }
        let places = self.places();
        let (from, places) = self.behind_hidden(&places);
        let across = places.iter().find(|place| place.start < cut && cut < place.end);
        if from < cut {
            let mut piece = self.pending[from..across.map_or(cut, |place| place.start)].to_vec();
            if across.is_some() {
                piece.extend_from_slice(REDACTED.as_bytes());
            }
            self.show(&String::from_utf8_lossy(&piece));
        }
        self.hidden = across.map_or(from, |place| place.end).saturating_sub(cut);
        self.pending.drain(..cut);
    }

    fn places(&self) -> Vec<Range<usize>> {
        self.cx.secrets().places_in_bytes(&self.pending)
    }

    /// Where that ends which is hidden already, together with the secrets that overlap it, and the places behind.
    fn behind_hidden<'p>(&self, places: &'p [Range<usize>]) -> (usize, &'p [Range<usize>]) {
        let mut end = self.hidden;
        let mut rest = places;
        while let Some((first, others)) = rest.split_first().filter(|(first, _)| first.start < end) {
            end = end.max(first.end);
            rest = others;
        }
        (end.min(self.pending.len()), rest)
    }

    fn show(&self, text: &str) {
        let text = text.rsplit('\r').next().unwrap_or_default();
        self.cx.output(self.level, text);
    }
}

impl AsyncWrite for LineWriter {
    fn poll_write(
        mut self: Pin<&mut Self>,
        _: &mut task::Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        let mut rest = bytes;
        while let Some(end) = rest.iter().position(|b| *b == b'\n') {
            self.pending.extend_from_slice(&rest[..end]);
            self.show_line();
            rest = &rest[end + 1..];
        }
        self.pending.extend_from_slice(rest);
        // Each piece is at least this long, however much is held back.
        if self.pending.len() > LONGEST_LINE + self.cx.secrets().longest() {
            self.show_piece();
        }
        Poll::Ready(Ok(bytes.len()))
    }

    fn poll_flush(self: Pin<&mut Self>, _: &mut task::Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, _: &mut task::Context<'_>) -> Poll<io::Result<()>> {
        if !self.pending.is_empty() {
            self.show_line();
        }
        Poll::Ready(Ok(()))
    }
}

/// Keeps what a command prints, up to a limit.
#[derive(Debug)]
pub(crate) struct Kept {
    bytes: Vec<u8>,
    most: usize,
    /// Whether more is dropped; else it is an error.
    drops: bool,
}

/// How much is kept of what a command says about its failure.
#[cfg(any(feature = "docker", feature = "ssh", feature = "winrm"))]
const LONGEST_COMPLAINT: usize = 4096;

impl Kept {
    /// For so many bytes; more is an error.
    pub(crate) fn new(most: usize) -> Self {
        Self { bytes: Vec::new(), most, drops: false }
    }

    /// For what a command says about its failure; what is too much is dropped.
    #[cfg(any(feature = "docker", feature = "ssh", feature = "winrm"))]
    pub(crate) fn complaint() -> Self {
        Self { drops: true, ..Self::new(LONGEST_COMPLAINT) }
    }

    /// The lines that were printed, without white space around them, as errors show them.
    #[cfg(any(feature = "docker", feature = "ssh", feature = "winrm"))]
    pub(crate) fn text(&self) -> String {
        // Shortened before it is cut, a line that was cut would look whole.
        crate::secrets::first_lines(&String::from_utf8_lossy(&self.bytes), self.most).trim().to_owned()
    }

    /// Whether there was more.
    pub(crate) fn is_exceeded(&self) -> bool {
        self.bytes.len() > self.most
    }

    /// What was printed.
    pub(crate) fn into_bytes(self) -> Vec<u8> {
        self.bytes
    }
}

impl AsyncWrite for Kept {
    fn poll_write(
        mut self: Pin<&mut Self>,
        _: &mut task::Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        // One byte more tells that there was more.
        let room = (self.most + 1).saturating_sub(self.bytes.len()).min(bytes.len());
        self.bytes.extend_from_slice(&bytes[..room]);
        if self.is_exceeded() && !self.drops {
            let message = format!("more than {} MiB came", self.most >> 20);
            return Poll::Ready(Err(io::Error::new(io::ErrorKind::FileTooLarge, message)));
        }
        Poll::Ready(Ok(bytes.len()))
    }

    fn poll_flush(self: Pin<&mut Self>, _: &mut task::Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }

    fn poll_shutdown(self: Pin<&mut Self>, _: &mut task::Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }
}

#[cfg(test)]
mod tests {
    use tokio::io::AsyncWriteExt;

    use super::*;
    use crate::event::EventKind;
    use crate::testing::Bench;

    /// The lines that are shown of bytes that are written in pieces of this size.
    async fn shown(secrets: &[&str], bytes: &[u8], size: usize) -> Vec<String> {
        let bench = Bench::new();
        for secret in secrets {
            bench.context().secrets().add(secret);
        }
        let mut writer = LineWriter::new(bench.context().clone(), Level::Info);
        for piece in bytes.chunks(size) {
            writer.write_all(piece).await.unwrap();
        }
        writer.shutdown().await.unwrap();
        let events = bench.recorder().events().into_iter();
        let line = |event: crate::Event| match event.kind {
            EventKind::Output { line, .. } => Some(line),
            _ => None,
        };
        events.filter_map(line).collect()
    }

    #[tokio::test]
    async fn no_part_of_a_secret_is_shown_where_a_long_line_is_cut() {
        let secret = "S3cr3tLongToken0123456789";
        for (unit, size) in [
            (format!("x{secret}"), 8192),
            (format!("x{secret}"), 7),
            (secret.to_owned(), 300_001),
            (format!("é{secret}ü "), 65_537),
        ] {
            let lines = shown(&[secret], unit.repeat(40_000).as_bytes(), size).await;
            assert!(lines.len() > 2, "it is cut");
            let rest = lines.concat().replace(REDACTED, "").replace(['x', 'é', 'ü', ' '], "");
            assert_eq!(rest, "", "{size}");
            let hidden = lines.iter().map(|line| line.matches(REDACTED).count()).sum::<usize>();
            assert_eq!(hidden, 40_000, "each is shown as one, {size}");
        }
    }

    #[tokio::test]
    async fn a_secret_longer_than_a_piece_and_ones_that_overlap_are_hidden() {
        let secret: String = (0..400_000).map(|i| char::from(b'a' + (i % 23) as u8)).collect();
        let text = format!("begin {secret} middle {secret} end\nnext\n");
        let lines = shown(&[&secret], text.as_bytes(), 4096).await;
        assert_eq!(lines.concat(), "begin <sensitive> middle <sensitive> endnext");
        // Every place of the line is in one, so that all of it is one place.
        let lines = shown(&["ababababab"], format!("{}!", "ab".repeat(400_000)).as_bytes(), 8192).await;
        assert_eq!(lines.concat(), "<sensitive>!");
    }

    #[tokio::test]
    async fn lines_are_as_they_were_written() {
        let text = "one\r\n50%\r100%\n\nlast  ";
        assert_eq!(shown(&[], text.as_bytes(), 3).await, ["one", "100%", "", "last"]);
        let long = "y".repeat(600_000);
        let lines = shown(&[], long.as_bytes(), 8192).await;
        assert_eq!((lines.len(), lines.concat()), (3, long));
    }

    #[tokio::test]
    async fn what_is_kept_is_bounded() {
        let mut kept = Kept::new(1 << 20);
        kept.write_all(&[b'x'; 1 << 20]).await.unwrap();
        assert!(!kept.is_exceeded());
        let error = kept.write_all(b"x").await.unwrap_err();
        assert_eq!(error.to_string(), "more than 1 MiB came");
        assert!(kept.is_exceeded() && kept.into_bytes().len() == (1 << 20) + 1);
    }

    #[cfg(any(feature = "docker", feature = "ssh", feature = "winrm"))]
    #[tokio::test]
    async fn a_complaint_is_cut_between_lines() {
        let mut complaint = Kept::complaint();
        for _ in 0..1000 {
            complaint.write_all(b"S3cr3t with spaces\n").await.unwrap();
        }
        let text = complaint.text();
        assert!(text.len() < 4096 && text.lines().all(|line| line == "S3cr3t with spaces"), "{text}");
        assert!(complaint.into_bytes().len() <= 4097);
    }
}
