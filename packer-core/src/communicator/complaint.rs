//! What a command says about its failure, as errors show it.

use std::io;
use std::pin::Pin;
use std::task::{self, Poll};

use tokio::io::AsyncWrite;

use crate::secrets::first_lines;

/// The first lines of what a command says about its failure; what is too much is dropped.
#[derive(Debug, Default)]
pub(crate) struct Complaint(Vec<u8>);

/// How much of a complaint is kept.
const LONGEST_COMPLAINT: usize = 4096;

impl Complaint {
    /// What was said, without white space around it.
    pub(crate) fn text(&self) -> String {
        // Shortened before it is cut, a line that was cut would look whole.
        first_lines(&String::from_utf8_lossy(&self.0), LONGEST_COMPLAINT).trim().to_owned()
    }
}

impl AsyncWrite for Complaint {
    fn poll_write(
        mut self: Pin<&mut Self>,
        _: &mut task::Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        // One byte more tells that there was more.
        let room = (LONGEST_COMPLAINT + 1).saturating_sub(self.0.len()).min(bytes.len());
        self.0.extend_from_slice(&bytes[..room]);
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

    #[tokio::test]
    async fn it_is_cut_between_lines() {
        let mut complaint = Complaint::default();
        for _ in 0..1000 {
            complaint.write_all(b"S3cr3t with spaces\n").await.unwrap();
        }
        let text = complaint.text();
        assert!(text.len() < 4096 && text.lines().all(|line| line == "S3cr3t with spaces"), "{text}");
    }
}
