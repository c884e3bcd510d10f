//! Requests that an engine finishes although nobody waits for the answer any more.

use std::collections::HashMap;
use std::fmt;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use tokio_util::sync::CancellationToken;

use crate::error::{Error, Result};
use crate::ledger::ResourceId;

/// The requests of a component that create something. A cancelled build drops the future that waits for one, but the
/// engine goes on: what is created must be released after that, not before. Cheap to clone; all clones are the same.
#[derive(Clone, Default)]
pub struct InFlight(Arc<Mutex<HashMap<ResourceId, CancellationToken>>>);

impl InFlight {
    fn table(&self) -> MutexGuard<'_, HashMap<ResourceId, CancellationToken>> {
        // Every change is one insert or remove.
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Runs the request that creates a resource; it goes on to its end also where this future is dropped.
    ///
    /// # Errors
    /// The request's own.
    pub async fn run<T: Send + 'static>(
        &self,
        resource: ResourceId,
        request: impl Future<Output = Result<T>> + Send + 'static,
    ) -> Result<T> {
        let done = CancellationToken::new();
        self.table().insert(resource, done.clone());
        let request = tokio::spawn(async move {
            let _done = done.drop_guard();
            request.await
        });
        let answer = request.await.map_err(|e| Error::internal(format!("a request to the engine: {e}")))?;
        self.table().remove(&resource);
        answer
    }

    /// Waits for the request that creates a resource, where it is on its way.
    pub async fn finished(&self, resource: ResourceId) {
        let pending = self.table().get(&resource).cloned();
        if let Some(done) = pending {
            done.cancelled().await;
            self.table().remove(&resource);
        }
    }
}

/// What is on its way is no part of a component's configuration.
impl PartialEq for InFlight {
    fn eq(&self, _: &Self) -> bool {
        true
    }
}

impl fmt::Debug for InFlight {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "InFlight({})", self.table().len())
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;
    use crate::ledger::Resource;

    #[tokio::test]
    async fn a_dropped_request_is_waited_for() {
        let (flights, resource) = (InFlight::default(), Resource::new("container", "a").id);
        let made = Arc::new(Mutex::new(false));
        let inner = made.clone();
        let request = flights.run(resource, async move {
            tokio::time::sleep(Duration::from_millis(100)).await;
            *inner.lock().unwrap() = true;
            Ok(())
        });
        assert!(tokio::time::timeout(Duration::from_millis(10), request).await.is_err());
        assert!(!*made.lock().unwrap());
        flights.clone().finished(resource).await;
        assert!(*made.lock().unwrap());
        flights.finished(resource).await;
    }
}
