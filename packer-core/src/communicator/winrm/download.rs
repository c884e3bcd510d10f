//! Files out of the machine: a script prints them as base64.

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use tokio::io::{AsyncWrite, AsyncWriteExt};

use super::super::output::Kept;
use super::client::Client;
use super::failure::Failure;
use super::powershell;
use super::shell::Shell;
use crate::context::Context;
use crate::error::{Error, Result, os_text};

/// Copies a file's content into `sink`.
pub(super) async fn file(
    cx: &Context,
    client: &Client,
    path: &str,
    sink: &mut (dyn AsyncWrite + Send + Unpin),
) -> Result<()> {
    let mut shell = Shell::open_for(cx, client).await?;
    let done = Box::pin(cx.until_cancelled(copy(&mut shell, path, sink))).await;
    shell.close().await;
    done
}

async fn copy(shell: &mut Shell, path: &str, sink: &mut (dyn AsyncWrite + Send + Unpin)) -> Result<()> {
    let unwritable =
        |e: std::io::Error| Error::user(format!("what comes of {path} is not taken: {}", os_text(&e)));
    shell.start(&powershell::send(path)).await.map_err(Failure::into_error)?;
    shell.send(&[], true).await.map_err(Failure::into_error)?;
    let mut complaint = Kept::complaint();
    let mut decoder = Decoder::default();
    loop {
        let answer = shell.receive().await.map_err(Failure::into_error)?;
        // Writing into memory cannot fail.
        let _ = complaint.write_all(&answer.stderr).await;
        let bytes = decoder.take(&answer.stdout).map_err(|why| Error::guest(format!("{path}: {why}")))?;
        sink.write_all(&bytes).await.map_err(unwritable)?;
        if !answer.done {
            continue;
        }
        shell.ended();
        let code = answer.exit_code.unwrap_or(-1);
        if code != 0 {
            return Err(Error::guest(format!("{path}: {} (exit code {code})", complaint.text())));
        }
        if !decoder.is_whole() {
            return Err(Error::guest(format!("{path}: the end of it did not come")));
        }
        return sink.flush().await.map_err(unwritable);
    }
}

/// Decodes base64 that comes in pieces, each line of it a text by itself.
#[derive(Default)]
pub(super) struct Decoder {
    /// What is not a whole group yet.
    rest: Vec<u8>,
}

impl Decoder {
    pub(super) fn take(&mut self, text: &[u8]) -> Result<Vec<u8>, String> {
        let mut bytes = Vec::with_capacity(text.len() / 4 * 3);
        let visible = text.iter().filter(|byte| !byte.is_ascii_whitespace());
        for byte in visible {
            self.rest.push(*byte);
            // A text ends with its padding, or with a group.
            if self.rest.len().is_multiple_of(4) && (*byte == b'=' || self.rest.len() >= 4096) {
                self.decode(&mut bytes)?;
            }
        }
        let open = self.rest.split_off(self.rest.len() / 4 * 4);
        self.decode(&mut bytes)?;
        self.rest = open;
        Ok(bytes)
    }

    fn decode(&mut self, into: &mut Vec<u8>) -> Result<(), String> {
        let decoded = STANDARD.decode_vec(&self.rest, into);
        self.rest.clear();
        decoded.map_err(|e| format!("what came is not encoded as it should be: {e}"))
    }

    pub(super) fn is_whole(&self) -> bool {
        self.rest.is_empty()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_are_decoded_wherever_the_pieces_end() {
        let content: Vec<u8> = (0..=255).cycle().take(20_000).collect();
        for width in [1, 2, 3, 50, 6000, 20_000] {
            let text: String =
                content.chunks(width).map(|part| format!("{}\r\n", STANDARD.encode(part))).collect();
            for size in [1, 7, 4096, text.len()] {
                let mut decoder = Decoder::default();
                let parts = text.as_bytes().chunks(size).map(|piece| decoder.take(piece).unwrap());
                assert_eq!(parts.collect::<Vec<_>>().concat(), content, "{width} {size}");
                assert!(decoder.is_whole());
            }
        }
        let mut decoder = Decoder::default();
        assert_eq!(decoder.take(b"b25lI").unwrap(), b"one");
        assert!(!decoder.is_whole());
        assert!(decoder.take(b"!!!").is_err());
    }
}
