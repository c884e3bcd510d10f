//! From the bytes a command prints to lines that are shown.

use std::io;
use std::pin::Pin;
use std::task::{self, Poll};

use tokio::io::AsyncWrite;

use crate::context::Context;
use crate::event::Level;

/// The longest line that is held back for its end; a longer one is shown in pieces.
const LONGEST_LINE: usize = 256 * 1024;

/// Shows each line written to it as one output line of the build.
///
/// Of a line that overwrites itself (a progress bar with `\r`) only the last state is shown, space at its end
/// is dropped, and bytes that are no UTF-8 become replacement characters. [`AsyncWrite::poll_shutdown`] shows an
/// unfinished last line.
#[derive(Debug)]
pub struct LineWriter {
    cx: Context,
    level: Level,
    pending: Vec<u8>,
}

impl LineWriter {
    /// Lines go to the output of `cx` at this level.
    pub fn new(cx: Context, level: Level) -> Self {
        Self { cx, level, pending: Vec::new() }
    }

    fn show(&mut self, end: usize) {
        let text = String::from_utf8_lossy(&self.pending[..end]);
        let text = text.trim_end();
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
            let whole = self.pending.len();
            self.show(whole);
            self.pending.clear();
            rest = &rest[end + 1..];
        }
        self.pending.extend_from_slice(rest);
        if self.pending.len() > LONGEST_LINE {
            let whole = self.pending.len();
            self.show(whole);
            self.pending.clear();
        }
        Poll::Ready(Ok(bytes.len()))
    }

    fn poll_flush(self: Pin<&mut Self>, _: &mut task::Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, _: &mut task::Context<'_>) -> Poll<io::Result<()>> {
        if !self.pending.is_empty() {
            let whole = self.pending.len();
            self.show(whole);
            self.pending.clear();
        }
        Poll::Ready(Ok(()))
    }
}
