//! Machines in software start one after the other, as many at once as there are processors.
//!
//! Such a machine needs a whole processor until it is up. The clock of one that gets a fifth of it goes on at its full pace all the
//! same, so that it works on interrupts for the most part: ten at once need twice the time of ten in turn.

use std::sync::LazyLock;
use std::time::Duration;

use packer_core::{Context, Error, Result};
use tokio::sync::{Semaphore, SemaphorePermit};

/// How long the others wait for one that does not come up: it may not need its processor, as an installer that waits for a key.
const LIMIT: Duration = Duration::from_secs(120);

static PROCESSORS: LazyLock<Semaphore> =
    LazyLock::new(|| Semaphore::new(std::thread::available_parallelism().map_or(1, usize::from)));

/// The right to start a machine. Dropped, the next one may.
#[derive(Debug)]
pub(super) struct Turn(Option<SemaphorePermit<'static>>);

impl Turn {
    /// Waits for the right to start a machine with this accelerator; one that the hardware runs has it at once.
    pub(super) async fn new(cx: &Context, accelerator: &str) -> Result<Self> {
        if !matches!(accelerator, "tcg" | "none") && !accelerator.starts_with("tcg,") {
            return Ok(Self(None));
        }
        if let Ok(permit) = PROCESSORS.try_acquire() {
            return Ok(Self(Some(permit)));
        }
        let what = "Waiting for a processor: other machines without hardware acceleration are starting";
        let mut shown = cx.progress(what, None);
        shown.set(0);
        let permit = cx.until_cancelled(async {
            PROCESSORS.acquire().await.map_err(|e| Error::internal(format!("waiting for a processor: {e}")))
        });
        permit.await.map(|permit| Self(Some(permit)))
    }

    /// Gives the turn to the next one when the limit has passed.
    pub(super) async fn lapse(&mut self) {
        tokio::time::sleep(LIMIT).await;
        self.0 = None;
    }
}

#[cfg(test)]
mod tests {
    use packer_core::testing::Bench;
    use tokio::time::timeout;

    use super::*;

    #[tokio::test(start_paused = true)]
    async fn as_many_start_as_there_are_processors() {
        let bench = Bench::new();
        let cx = bench.context();
        let soon = Duration::from_secs(1);
        let mut first = Turn::new(cx, "tcg").await.unwrap();
        let mut others = Vec::new();
        while let Ok(turn) = timeout(soon, Turn::new(cx, "none")).await {
            others.push(turn.unwrap());
        }
        assert_eq!(others.len() + 1, std::thread::available_parallelism().unwrap().get());
        timeout(soon, Turn::new(cx, "kvm")).await.unwrap().unwrap();
        // One that does not come up is not waited for.
        let (next, ()) = tokio::join!(Turn::new(cx, "tcg"), first.lapse());
        others.push(next.unwrap());
        timeout(soon, Turn::new(cx, "tcg")).await.unwrap_err();
        others.clear();
        timeout(soon, Turn::new(cx, "tcg")).await.unwrap().unwrap();
    }
}
