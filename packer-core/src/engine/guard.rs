//! A component that panics fails its own build and nothing else.

use std::future::poll_fn;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::pin::pin;

use crate::error::{Error, Result};

/// Runs a component's future; a panic in it becomes an error. `who` names the component.
pub(crate) async fn caught<T>(who: &str, work: impl Future<Output = Result<T>>) -> Result<T> {
    match unwound(work).await {
        Ok(result) => result,
        Err(message) => Err(Error::internal(format!("{who} panicked: {message}"))),
    }
}

/// Runs a future; a panic in it becomes its message.
pub(crate) async fn unwound<T>(work: impl Future<Output = T>) -> std::result::Result<T, String> {
    let mut work = pin!(work);
    // The future is not polled again after a panic, and what it shares with others is behind locks that
    // bear a poisoning, so nobody sees a broken state.
    let poll =
        |cx: &mut std::task::Context<'_>| match catch_unwind(AssertUnwindSafe(|| work.as_mut().poll(cx))) {
            Ok(poll) => poll.map(Ok),
            Err(payload) => std::task::Poll::Ready(Err(message(payload.as_ref()))),
        };
    poll_fn(poll).await
}

/// The same for a call that is no future.
pub(crate) fn unwound_call<T>(work: impl FnOnce() -> T) -> std::result::Result<T, String> {
    catch_unwind(AssertUnwindSafe(work)).map_err(|payload| message(payload.as_ref()))
}

fn message(payload: &(dyn std::any::Any + Send)) -> String {
    let text = payload.downcast_ref::<&str>().map(|s| (*s).to_owned());
    text.or_else(|| payload.downcast_ref::<String>().cloned()).unwrap_or_else(|| "(no message)".to_owned())
}
