//! Streams from and to an engine: into files that appear whole, out of blocking writers.

use std::io::{self, Write};
use std::path::Path;

use bytes::{Bytes, BytesMut};
use futures_util::{Stream, StreamExt};
use tokio::sync::mpsc;

use crate::context::Context;
use crate::error::{Error, Result};
use crate::kit::WholeFile;

/// How much is handed on at once.
pub(crate) const CHUNK: usize = 512 * 1024;

/// How many pieces may wait on the way.
const WAITING: usize = 4;

/// Writes a stream into a file that appears when it is whole. A new file gets the permission bits `mode`.
pub(crate) async fn to_file(
    cx: &Context,
    path: &Path,
    mode: u32,
    total: Option<u64>,
    stream: impl Stream<Item = Result<Bytes>>,
) -> Result<()> {
    let (sender, mut receiver) = mpsc::channel::<Option<Bytes>>(WAITING);
    let (inner, target) = (cx.clone(), path.to_path_buf());
    let writing = cx.blocking(move |stop| {
        let mut file = WholeFile::create(&inner, &target, mode)?;
        while let Some(message) = receiver.blocking_recv() {
            stop.check()?;
            match message {
                Some(chunk) => file.write_all(&chunk).map_err(|e| Error::io("write", &target, e))?,
                None => return file.commit(),
            }
        }
        // The stream broke off; its own error is the one that counts.
        Err(Error::cancelled())
    });
    let reading = async move {
        let mut progress = cx.progress(path.display().to_string(), total);
        let mut stream = std::pin::pin!(stream);
        while let Some(chunk) = stream.next().await {
            let chunk = chunk?;
            progress.advance(chunk.len() as u64);
            if sender.send(Some(chunk)).await.is_err() {
                return Ok(()); // the writer says why it ended
            }
        }
        let _ = sender.send(None).await;
        Ok(())
    };
    let (written, read) = tokio::join!(writing, reading);
    read.and(written)
}

/// Where blocking code writes what becomes the body of a request. Ends with an error when nobody reads any more.
pub(crate) struct BodyWriter {
    sender: mpsc::Sender<io::Result<Bytes>>,
    buffer: BytesMut,
}

/// A writer, and the stream of what is written to it. A stream whose writer is dropped before
/// [`finish`](BodyWriter::finish) breaks off with an error, so that nobody takes a part for the whole.
pub(crate) fn body() -> (BodyWriter, impl Stream<Item = io::Result<Bytes>> + Send + 'static) {
    let (sender, receiver) = mpsc::channel(WAITING);
    (BodyWriter { sender, buffer: BytesMut::with_capacity(CHUNK) }, received(receiver))
}

/// What a channel brings, as a stream. It must end with an empty piece.
pub(crate) fn received(
    receiver: mpsc::Receiver<io::Result<Bytes>>,
) -> impl Stream<Item = io::Result<Bytes>> + Send + 'static {
    futures_util::stream::unfold(Some(receiver), |receiver| async {
        let mut receiver = receiver?;
        match receiver.recv().await {
            Some(Ok(last)) if last.is_empty() => None,
            Some(Ok(chunk)) => Some((Ok(chunk), Some(receiver))),
            Some(Err(e)) => Some((Err(e), None)),
            None => Some((Err(io::ErrorKind::UnexpectedEof.into()), None)),
        }
    })
}

impl BodyWriter {
    fn send(&mut self) -> io::Result<()> {
        let chunk = self.buffer.split().freeze();
        self.buffer.reserve(CHUNK);
        self.sender.blocking_send(Ok(chunk)).map_err(|_| io::ErrorKind::BrokenPipe.into())
    }

    /// Hands on what is left and marks the end.
    pub(crate) fn finish(mut self) -> io::Result<()> {
        if !self.buffer.is_empty() {
            self.send()?;
        }
        self.send()
    }
}

impl Write for BodyWriter {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let room = CHUNK.saturating_sub(self.buffer.len()).min(bytes.len());
        self.buffer.extend_from_slice(&bytes[..room]);
        if self.buffer.len() >= CHUNK {
            self.send()?;
        }
        Ok(room)
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}
