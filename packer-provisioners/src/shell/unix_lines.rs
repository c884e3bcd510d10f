//! Line ends of Unix for scripts that were written elsewhere.

use std::io;
use std::pin::Pin;
use std::task::{Context, Poll, ready};

use tokio::io::{AsyncBufRead, AsyncRead, BufReader, ReadBuf};

/// Reads a text with `\r\n` as `\n`, and a `\n` behind the last line; whatever its lines' lengths, only a small
/// part of it is in memory.
#[derive(Debug)]
pub(super) struct UnixLines<R> {
    inner: BufReader<R>,
    converted: Vec<u8>,
    given: usize,
    /// A `\r` at the end of what was converted: it belongs to a line's end, or it does not.
    held_return: bool,
    at_line_start: bool,
    ended: bool,
}

impl<R: AsyncRead> UnixLines<R> {
    pub(super) fn new(inner: R) -> Self {
        Self {
            inner: BufReader::with_capacity(64 * 1024, inner),
            converted: Vec::new(),
            given: 0,
            held_return: false,
            at_line_start: true,
            ended: false,
        }
    }
}

impl<R> UnixLines<R> {
    fn convert(&mut self, input: &[u8]) {
        for &byte in input {
            if std::mem::take(&mut self.held_return) && byte != b'\n' {
                self.converted.push(b'\r');
            }
            match byte {
                b'\r' => self.held_return = true,
                _ => self.converted.push(byte),
            }
            self.at_line_start = byte == b'\n';
        }
    }

    fn end(&mut self) {
        self.ended = true;
        if !self.at_line_start {
            self.converted.push(b'\n');
        }
    }
}

impl<R: AsyncRead + Unpin> AsyncRead for UnixLines<R> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        out: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let this = &mut *self;
        while this.given == this.converted.len() {
            this.converted.clear();
            this.given = 0;
            if this.ended {
                return Poll::Ready(Ok(()));
            }
            let input = ready!(Pin::new(&mut this.inner).poll_fill_buf(cx))?;
            if input.is_empty() {
                this.end();
                continue;
            }
            let input = input.to_vec();
            this.convert(&input);
            Pin::new(&mut this.inner).consume(input.len());
        }
        let count = out.remaining().min(this.converted.len() - this.given);
        out.put_slice(&this.converted[this.given..this.given + count]);
        this.given += count;
        Poll::Ready(Ok(()))
    }
}

#[cfg(test)]
mod tests {
    use tokio::io::AsyncReadExt;

    use super::*;

    #[tokio::test]
    async fn lines_end_as_on_unix_wherever_reads_are_cut() {
        for (text, expected) in [
            ("", ""),
            ("a", "a\n"),
            ("a\r\nb\r\n", "a\nb\n"),
            ("a\rb\r\r\nc\r", "a\rb\r\nc\n"),
            ("\r", "\n"),
            ("\n\r\n\n", "\n\n\n"),
        ] {
            for piece in 1..4 {
                let mut reader = in_pieces(text, piece);
                let mut lines = UnixLines::new(&mut reader);
                let mut read = String::new();
                lines.read_to_string(&mut read).await.unwrap();
                assert_eq!(read, expected, "{text:?} in pieces of {piece}");
            }
        }
    }

    /// A reader that gives a few bytes at a time.
    fn in_pieces(text: &str, piece: usize) -> Box<dyn AsyncRead + Unpin> {
        text.as_bytes()
            .chunks(piece)
            .map(|piece| io::Cursor::new(piece.to_vec()))
            .fold(Box::new(tokio::io::empty()), |before: Box<dyn AsyncRead + Unpin>, piece| {
                Box::new(before.chain(piece))
            })
    }
}
