//! Tries that go on for a while: a machine may be rebooting.

use std::time::{Duration, Instant};

use packer_core::duration::GoDuration;
use packer_core::{Context, Error, Fault, Result};

/// How long a machine may take, unless the template says otherwise.
pub(crate) const LIMIT: Duration = Duration::from_secs(5 * 60);

/// How long to wait between two tries.
const PAUSE: Duration = Duration::from_secs(2);

/// Tries that go on for a while.
pub(crate) struct Tries {
    end: Instant,
}

impl Tries {
    /// For so long, 5 minutes where that is zero.
    pub(crate) fn within(limit: GoDuration) -> Self {
        let limit = if limit.is_zero() { LIMIT } else { limit.to_std() };
        let now = Instant::now();
        Self { end: now.checked_add(limit).unwrap_or(now + LIMIT) }
    }

    /// Waits for the next try.
    ///
    /// # Errors
    /// The failure of the last try, where time is over or another one cannot help.
    pub(crate) async fn again(&self, cx: &Context, error: Error) -> Result<()> {
        let hopeless = match error.fault() {
            Fault::Cancelled | Fault::User | Fault::Internal => true,
            // What runs the machine says that it has ended.
            Fault::Provider => !error.is_retryable(),
            _ => false,
        };
        if hopeless || Instant::now() >= self.end {
            return Err(error);
        }
        cx.sleep(PAUSE).await
    }
}
