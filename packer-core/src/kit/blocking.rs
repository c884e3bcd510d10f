//! Blocking work (hashing, compressing, copying) off the async threads, with an end when nobody waits for it.

use std::io::{self, Read};

use tokio::sync::oneshot;
use tokio_util::sync::CancellationToken;

use crate::context::{Context, Progress};
use crate::error::{Error, Result};

/// Tells blocking work that nobody waits for it any more: the build was cancelled, or its future dropped.
#[derive(Debug, Clone)]
pub struct Stop(CancellationToken);

impl Stop {
    /// An error where the work should end.
    pub fn check(&self) -> Result<()> {
        if self.0.is_cancelled() { Err(Error::cancelled()) } else { Ok(()) }
    }

    /// A reader that fails as soon as the work should end, and tells how far it is.
    pub fn reader<R: Read>(&self, inner: R, progress: Option<Progress>) -> StopReader<R> {
        StopReader { inner, stop: self.clone(), progress }
    }
}

/// See [`Stop::reader`].
#[derive(Debug)]
pub struct StopReader<R> {
    inner: R,
    stop: Stop,
    progress: Option<Progress>,
}

impl<R: Read> Read for StopReader<R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        self.stop.check().map_err(io::Error::other)?;
        let read = self.inner.read(buffer)?;
        if let Some(progress) = &mut self.progress {
            progress.advance(read as u64);
        }
        Ok(read)
    }
}

impl Context {
    /// Runs work that blocks its thread. The work looks at its [`Stop`] from time to time, or reads through
    /// [`Stop::reader`], and ends early when this context is cancelled or the future is dropped. Cleanup begins when it
    /// has ended, so that it may still write into the ledger what it makes meanwhile.
    ///
    /// ```
    /// # #[cfg(feature = "testing")]
    /// # tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap().block_on(async {
    /// # let bench = packer_core::testing::Bench::new();
    /// # let cx = bench.context();
    /// # let path = bench.folder().join("image");
    /// # std::fs::write(&path, "12345").unwrap();
    /// use packer_core::Error;
    /// let inner = cx.clone();
    /// let size = cx.blocking(move |stop| {
    ///     let file = std::fs::File::open(&path).map_err(|e| Error::io("open", &path, e))?;
    ///     // Ends when the build is cancelled, and tells how far it is.
    ///     let mut input = stop.reader(file, Some(inner.progress("reading the image", None)));
    ///     std::io::copy(&mut input, &mut std::io::sink()).map_err(|e| Error::io("read", &path, e))
    /// });
    /// assert_eq!(size.await?, 5);
    /// # Ok::<(), packer_core::Error>(())
    /// # }).unwrap();
    /// ```
    ///
    /// # Errors
    /// The work's own; cancellation.
    pub async fn blocking<T: Send + 'static>(
        &self,
        work: impl FnOnce(&Stop) -> Result<T> + Send + 'static,
    ) -> Result<T> {
        let token = self.cancellation().child_token();
        let _ends_with_this_future = token.clone().drop_guard();
        let stop = Stop(token);
        let busy = self.record_of_build().clone().busy();
        let work = start(move || {
            let _busy = busy;
            work(&stop)
        });
        self.until_cancelled(work).await
    }
}

/// Starts work on a thread that may wait. Nothing calls it off: the future that is given back waits for its result.
pub(crate) fn start<T: Send + 'static>(
    work: impl FnOnce() -> Result<T> + Send + 'static,
) -> impl Future<Output = Result<T>> + Send {
    let (sender, receiver) = oneshot::channel();
    // A task is large, and compiled once for each type of work.
    let work: Box<dyn FnOnce() + Send> = Box::new(move || drop(sender.send(work())));
    let task = tokio::task::spawn_blocking(work);
    async move {
        match receiver.await {
            Ok(result) => result,
            Err(_) => Err(match task.await {
                Err(e) => Error::internal(format!("blocking work: {e}")),
                Ok(()) => Error::internal("blocking work: its result was lost"),
            }),
        }
    }
}
