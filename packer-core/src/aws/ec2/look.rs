//! Looks at what exists: those that many builds make at the same time are one call.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use aws_sdk_ec2::Client;
use aws_sdk_ec2::types::{Filter, Image, Instance, Snapshot, Volume};
use tokio::sync::oneshot;

use super::{Ec2, Refused, Session, ask};

/// How long a look waits for others to come along.
const GATHER: Duration = Duration::from_millis(5);

/// The most values that a filter may have.
const MOST: usize = 200;

/// One kind of thing that is looked at by its id.
trait Kind: Clone + Send + Sync + 'static {
    /// Asks for those that are there. A filter finds nothing where an id is unknown; the parameter for ids is an error then.
    fn describe(
        api: &Client,
        session: &Session,
        ids: Vec<String>,
    ) -> impl Future<Output = Result<Vec<(String, Self)>, Refused>> + Send;
}

type Answer<T> = Result<Option<T>, Refused>;

/// The looks of one kind that wait to be made.
#[derive(Debug)]
struct Batch<T>(Arc<Mutex<Pending<T>>>);

#[derive(Debug)]
struct Pending<T> {
    wanted: HashMap<String, Vec<oneshot::Sender<Answer<T>>>>,
    /// Whether somebody makes calls at the moment.
    busy: bool,
}

impl<T: Kind> Batch<T> {
    fn new() -> Self {
        Self(Arc::new(Mutex::new(Pending { wanted: HashMap::new(), busy: false })))
    }

    async fn look(&self, api: &Client, session: &Arc<Session>, id: &str) -> Answer<T> {
        let (sender, answer) = oneshot::channel();
        let first = {
            let mut pending = self.0.lock().unwrap_or_else(PoisonError::into_inner);
            pending.wanted.entry(id.to_owned()).or_default().push(sender);
            !std::mem::replace(&mut pending.busy, true)
        };
        if first {
            // A task of its own: who asked first may be dropped, and others wait too. It ends with the last of them.
            tokio::spawn(serve(self.0.clone(), api.clone(), session.clone()));
        }
        answer.await.unwrap_or_else(|_| Err(Refused::answered("Describe", "Internal", "nobody looked")))
    }
}

async fn serve<T: Kind>(pending: Arc<Mutex<Pending<T>>>, api: Client, session: Arc<Session>) {
    loop {
        tokio::time::sleep(GATHER).await;
        let wanted: HashMap<_, _> = {
            let mut pending = pending.lock().unwrap_or_else(PoisonError::into_inner);
            // Who was dropped meanwhile wants nothing any more.
            pending.wanted.retain(|_, askers| askers.iter().any(|asker| !asker.is_closed()));
            let now: Vec<String> = pending.wanted.keys().take(MOST).cloned().collect();
            if now.is_empty() {
                pending.busy = false;
                return;
            }
            now.into_iter().filter_map(|id| pending.wanted.remove_entry(&id)).collect()
        };
        let found = T::describe(&api, &session, wanted.keys().cloned().collect()).await;
        let found = found.map(|found| found.into_iter().collect::<HashMap<_, _>>());
        for (id, askers) in wanted {
            let answer = found.as_ref().map(|found| found.get(&id).cloned()).map_err(Clone::clone);
            for asker in askers {
                // Who was dropped does not listen.
                let _ = asker.send(answer.clone());
            }
        }
    }
}

/// The looks of a client.
#[derive(Debug)]
pub(super) struct Looks {
    instances: Batch<Instance>,
    images: Batch<Image>,
    snapshots: Batch<Snapshot>,
    volumes: Batch<Volume>,
}

impl Looks {
    pub(super) fn new() -> Self {
        Self { instances: Batch::new(), images: Batch::new(), snapshots: Batch::new(), volumes: Batch::new() }
    }
}

impl Ec2 {
    /// An instance as it is now; `None` where EC2 does not know it, or not yet.
    pub async fn instance(&self, id: &str) -> Result<Option<Instance>, Refused> {
        self.0.looks.instances.look(&self.0.api, &self.0.session, id).await
    }

    /// An image of the account's own.
    pub async fn image(&self, id: &str) -> Result<Option<Image>, Refused> {
        self.0.looks.images.look(&self.0.api, &self.0.session, id).await
    }

    /// A snapshot of the account's own.
    pub async fn snapshot(&self, id: &str) -> Result<Option<Snapshot>, Refused> {
        self.0.looks.snapshots.look(&self.0.api, &self.0.session, id).await
    }

    /// A volume.
    pub async fn volume(&self, id: &str) -> Result<Option<Volume>, Refused> {
        self.0.looks.volumes.look(&self.0.api, &self.0.session, id).await
    }
}

fn filter(name: &str, values: Vec<String>) -> Filter {
    Filter::builder().name(name).set_values(Some(values)).build()
}

/// Things with the ids that they have.
fn by_id<T>(things: Vec<T>, id: impl Fn(&T) -> Option<&str>) -> Vec<(String, T)> {
    things.into_iter().filter_map(|thing| id(&thing).map(str::to_owned).map(|id| (id, thing))).collect()
}

impl Kind for Instance {
    async fn describe(
        api: &Client,
        session: &Session,
        ids: Vec<String>,
    ) -> Result<Vec<(String, Self)>, Refused> {
        let call = |api: &Client| api.describe_instances().filters(filter("instance-id", ids.clone())).send();
        let answer = ask(api, session, "DescribeInstances", call).await?;
        let instances = answer.reservations.unwrap_or_default().into_iter();
        let instances = instances.flat_map(|reservation| reservation.instances.unwrap_or_default());
        Ok(by_id(instances.collect(), Self::instance_id))
    }
}

impl Kind for Image {
    async fn describe(
        api: &Client,
        session: &Session,
        ids: Vec<String>,
    ) -> Result<Vec<(String, Self)>, Refused> {
        let call = |api: &Client| {
            let look = api.describe_images().owners("self").include_deprecated(true);
            look.filters(filter("image-id", ids.clone())).send()
        };
        let answer = ask(api, session, "DescribeImages", call).await?;
        Ok(by_id(answer.images.unwrap_or_default(), Self::image_id))
    }
}

impl Kind for Snapshot {
    async fn describe(
        api: &Client,
        session: &Session,
        ids: Vec<String>,
    ) -> Result<Vec<(String, Self)>, Refused> {
        let call = |api: &Client| {
            api.describe_snapshots().owner_ids("self").filters(filter("snapshot-id", ids.clone())).send()
        };
        let answer = ask(api, session, "DescribeSnapshots", call).await?;
        Ok(by_id(answer.snapshots.unwrap_or_default(), Self::snapshot_id))
    }
}

impl Kind for Volume {
    async fn describe(
        api: &Client,
        session: &Session,
        ids: Vec<String>,
    ) -> Result<Vec<(String, Self)>, Refused> {
        let call = |api: &Client| api.describe_volumes().filters(filter("volume-id", ids.clone())).send();
        let answer = ask(api, session, "DescribeVolumes", call).await?;
        Ok(by_id(answer.volumes.unwrap_or_default(), Self::volume_id))
    }
}
