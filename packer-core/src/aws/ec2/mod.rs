//! EC2, by Amazon's SDK: one client for each account and region of a run, calls that are made again where that helps, and waits
//! that share their looks.

use std::collections::HashMap;
use std::future::Future;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use aws_sdk_ec2::Client;
use aws_sdk_ec2::error::{ProvideErrorMetadata, SdkError};
use aws_smithy_runtime_api::client::orchestrator::HttpResponse;
use tokio::time::Instant;

use super::{AccessConfig, Session};
use crate::context::Context;
use crate::error::Result;

mod attributes;
mod client;
pub mod images;
mod look;
mod password;
mod refused;
mod wait;

pub use attributes::{Attributes, create_tags};
use look::Looks;
pub use password::decrypted;
pub use refused::{Refused, not_there};
pub use wait::{Pace, Seen, once_known};

/// How long a call that is throttled is made again where the user does not say how often.
const PATIENCE: Duration = Duration::from_secs(15 * 60);

/// The longest pause before a call is made again.
const LONGEST_PAUSE: Duration = Duration::from_secs(20);

/// EC2 in one region of one account. Cheap to clone; all builds of a run that enter the account in the same way share it.
#[derive(Debug, Clone)]
pub struct Ec2(Arc<Inner>);

#[derive(Debug)]
struct Inner {
    api: Client,
    session: Arc<Session>,
    looks: Looks,
}

/// The clients of a run, by session.
#[derive(Debug, Default)]
struct Clients(Mutex<HashMap<usize, Ec2>>);

impl Ec2 {
    /// Enters an account.
    ///
    /// # Errors
    /// Where no credentials or no region are found, or AWS does not believe the credentials.
    pub async fn enter(cx: &Context, access: &AccessConfig) -> Result<Self> {
        Ok(Self::of(cx, access.session(cx).await?))
    }

    /// EC2 as a session sees it.
    pub fn of(cx: &Context, session: Arc<Session>) -> Self {
        let clients = cx.of_run::<Clients>();
        let mut clients = clients.0.lock().unwrap_or_else(PoisonError::into_inner);
        // The client holds its session, whose address is nobody else's as long.
        let client = clients.entry(Arc::as_ptr(&session) as usize).or_insert_with(|| {
            let api = client::make(&session);
            let looks = Looks::new();
            Self(Arc::new(Inner { api, session, looks }))
        });
        client.clone()
    }

    /// The same account in another region.
    pub fn in_region(&self, cx: &Context, region: &str) -> Self {
        if region == self.region() { self.clone() } else { Self::of(cx, self.0.session.in_region(region)) }
    }

    /// The account and region.
    pub fn session(&self) -> &Arc<Session> {
        &self.0.session
    }

    /// The name of the region.
    pub fn region(&self) -> &str {
        self.0.session.region()
    }

    /// Amazon's client. Calls are made through [`ask`](Self::ask).
    pub fn api(&self) -> &Client {
        &self.0.api
    }

    /// Makes a call, again where it was throttled or did not arrive: as often as `max_retries` says; without it a throttled call
    /// is made for a quarter of an hour. Credentials that have expired are fetched anew. A call that creates something
    /// needs a client token that stays the same.
    pub async fn ask<T, E, F>(
        &self,
        operation: &'static str,
        call: impl Fn(&Client) -> F,
    ) -> Result<T, Refused>
    where
        F: Future<Output = Result<T, SdkError<E, HttpResponse>>>,
        E: ProvideErrorMetadata + std::error::Error + Send + Sync + 'static,
    {
        ask(&self.0.api, &self.0.session, operation, call).await
    }
}

async fn ask<T, E, F>(
    api: &Client,
    session: &Session,
    operation: &'static str,
    call: impl Fn(&Client) -> F,
) -> Result<T, Refused>
where
    F: Future<Output = Result<T, SdkError<E, HttpResponse>>>,
    E: ProvideErrorMetadata + std::error::Error + Send + Sync + 'static,
{
    let (began, mut renewed, mut lost) = (Instant::now(), false, false);
    for tries in 1.. {
        // Boxed: the future of a call is large.
        let mut refused = match Box::pin(call(api)).await {
            Ok(answer) => return Ok(answer),
            Err(error) => Refused::new(operation, &error),
        };
        if refused.code == "UnauthorizedOperation" {
            refused.message = session.decoded(&refused.message).await;
        }
        if refused.is_expired() && !renewed {
            renewed = true;
            if session.credentials_anew().await.is_ok() {
                continue;
            }
        }
        if !refused.may_pass() {
            return Err(refused.with_lost(lost));
        }
        lost |= refused.is_lost();
        let patient =
            refused.is_throttled() && session.options().max_retries <= 0 && began.elapsed() < PATIENCE;
        if tries >= session.max_attempts() && !patient {
            return Err(refused.after(tries).with_lost(lost));
        }
        tokio::time::sleep(pause(tries)).await;
    }
    unreachable!("the number of tries has no end")
}

/// How long to wait after so many tries: longer each time, and not the same for all who were refused together.
fn pause(tries: u32) -> Duration {
    let longest = Duration::from_millis(200).saturating_mul(1 << tries.min(10)).min(LONGEST_PAUSE);
    longest.mul_f64(0.5 + fraction() / 2.0)
}

/// A random number from 0 to 1.
fn fraction() -> f64 {
    let bits = uuid::Uuid::new_v4().as_u128() as u32;
    f64::from(bits) / f64::from(u32::MAX)
}
