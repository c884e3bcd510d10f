//! Streams that do not wait forever: limits for reads and writes, and an end when the work they serve is over.

use std::future::Future;
use std::io;
use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::Duration;

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::time::{Instant, Sleep};
use tokio_util::sync::{CancellationToken, WaitForCancellationFutureOwned};

/// A stream whose reads and writes fail when they make no progress for a while.
pub(super) struct Timed<S> {
    inner: S,
    read: Limit,
    write: Limit,
}

impl<S> Timed<S> {
    /// `None` is no limit.
    pub(super) fn new(inner: S, read: Option<Duration>, write: Option<Duration>) -> Self {
        Self { inner, read: Limit::new(read), write: Limit::new(write) }
    }
}

/// The time since an operation last made progress.
struct Limit {
    limit: Option<Duration>,
    sleep: Option<Pin<Box<Sleep>>>,
    armed: bool,
}

impl Limit {
    fn new(limit: Option<Duration>) -> Self {
        Self { limit, sleep: None, armed: false }
    }

    fn check<T>(&mut self, cx: &mut Context<'_>, result: Poll<io::Result<T>>) -> Poll<io::Result<T>> {
        let Some(limit) = self.limit else { return result };
        if result.is_ready() {
            self.armed = false;
            return result;
        }
        let sleep = self.sleep.get_or_insert_with(|| Box::pin(tokio::time::sleep(limit)));
        if !self.armed {
            sleep.as_mut().reset(Instant::now() + limit);
            self.armed = true;
        }
        match sleep.as_mut().poll(cx) {
            Poll::Ready(()) => Poll::Ready(Err(io::Error::new(io::ErrorKind::TimedOut, "i/o timeout"))),
            Poll::Pending => Poll::Pending,
        }
    }
}

impl<S: AsyncRead + Unpin> AsyncRead for Timed<S> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let result = Pin::new(&mut self.inner).poll_read(cx, buffer);
        self.read.check(cx, result)
    }
}

impl<S: AsyncWrite + Unpin> AsyncWrite for Timed<S> {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        let result = Pin::new(&mut self.inner).poll_write(cx, bytes);
        self.write.check(cx, result)
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let result = Pin::new(&mut self.inner).poll_flush(cx);
        self.write.check(cx, result)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let result = Pin::new(&mut self.inner).poll_shutdown(cx);
        self.write.check(cx, result)
    }
}

/// A stream that ends when a token is cancelled, whatever it waits for; the end of what there is to read cancels the
/// token. russh never wakes a writer that waits for window space on a connection that is gone; this does.
pub(super) struct Until<S> {
    inner: S,
    token: CancellationToken,
    end: Pin<Box<WaitForCancellationFutureOwned>>,
}

impl<S> Until<S> {
    pub(super) fn new(inner: S, token: CancellationToken) -> Self {
        let end = Box::pin(token.clone().cancelled_owned());
        Self { inner, token, end }
    }

    fn check<T>(&mut self, cx: &mut Context<'_>, result: Poll<io::Result<T>>) -> Poll<io::Result<T>> {
        if result.is_ready() {
            return result;
        }
        match self.end.as_mut().poll(cx) {
            Poll::Ready(()) => Poll::Ready(Err(io::ErrorKind::BrokenPipe.into())),
            Poll::Pending => Poll::Pending,
        }
    }
}

impl<S: AsyncRead + Unpin> AsyncRead for Until<S> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let (before, room) = (buffer.filled().len(), buffer.remaining() > 0);
        let result = Pin::new(&mut self.inner).poll_read(cx, buffer);
        if result.is_ready() && room && buffer.filled().len() == before {
            self.token.cancel();
        }
        self.check(cx, result)
    }
}

impl<S: AsyncWrite + Unpin> AsyncWrite for Until<S> {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        let result = Pin::new(&mut self.inner).poll_write(cx, bytes);
        self.check(cx, result)
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let result = Pin::new(&mut self.inner).poll_flush(cx);
        self.check(cx, result)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let result = Pin::new(&mut self.inner).poll_shutdown(cx);
        self.check(cx, result)
    }
}

#[cfg(test)]
mod tests {
    use tokio::io::{AsyncReadExt, AsyncWriteExt};
    use tokio_util::sync::CancellationToken;

    use super::*;

    #[tokio::test]
    async fn a_read_without_progress_times_out_and_each_progress_starts_anew() {
        let (near, mut far) = tokio::io::duplex(16);
        let mut near = Timed::new(near, Some(Duration::from_millis(500)), None);
        let writer = tokio::spawn(async move {
            for _ in 0..3 {
                tokio::time::sleep(Duration::from_millis(300)).await;
                far.write_all(b"x").await.unwrap();
            }
            far
        });
        let mut bytes = [0; 3];
        near.read_exact(&mut bytes).await.unwrap();
        let _open = writer.await.unwrap();
        let error = near.read_exact(&mut bytes).await.unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::TimedOut);
    }

    #[tokio::test]
    async fn a_waiting_writer_ends_with_its_token() {
        let (near, _far) = tokio::io::duplex(1);
        let token = CancellationToken::new();
        let mut near = Until::new(near, token.clone());
        let writer = tokio::spawn(async move { near.write_all(b"more than fits").await });
        tokio::task::yield_now().await;
        token.cancel();
        assert_eq!(writer.await.unwrap().unwrap_err().kind(), io::ErrorKind::BrokenPipe);
    }
}
