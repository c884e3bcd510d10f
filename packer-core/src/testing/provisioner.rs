//! The behaviour suite of provisioners.

use std::time::Duration;

use super::{Bench, FakeBuilder};
use crate::builder::{Builder, Machine};
use crate::context::Context;
use crate::engine::cleanup;
use crate::provisioner::Provisioner;

/// Checks every rule of [`Provisioner`] on a machine that is a folder of this computer: it prepares without
/// finding anything wrong, works, works again, and leaves nothing behind when it is dropped at any await point.
///
/// # Panics
/// Where a rule is broken.
pub async fn suite(provisioner: &dyn Provisioner) {
    let bench = Bench::new();
    let builder = FakeBuilder::new(bench.folder());
    let machine = builder.launch(bench.context()).await.expect("the fake machine comes up");
    suite_on(provisioner, machine.as_ref()).await;
}

/// The same on a machine that is up.
///
/// # Panics
/// Where a rule is broken.
pub async fn suite_on(provisioner: &dyn Provisioner, machine: &dyn Machine) {
    let bench = Bench::new();
    let cx = &bench.context().with_facts(machine.facts().clone());
    let findings = provisioner.prepare(bench.prepare_context());
    assert!(!findings.has_errors(), "prepare of a working provisioner: {findings}");
    for round in ["the first time", "a second time"] {
        let result = provisioner.provision(cx, machine).await;
        assert!(result.is_ok(), "provisioning {round}: {}", result.unwrap_err());
        clean(&bench, cx, provisioner, machine).await;
    }
    // Dropped after ever more polls, until it gets to its end.
    for polls in 1..200 {
        if dropped_after(polls, provisioner.provision(cx, machine)).await {
            return;
        }
        clean(&bench, cx, provisioner, machine).await;
    }
}

/// Releases what the provisioner left, as the engine does at the end of a build, and before in the machine.
async fn clean(bench: &Bench, cx: &Context, provisioner: &dyn Provisioner, machine: &dyn Machine) {
    for resource in bench.outstanding().into_iter().rev() {
        let released = match resource.is_local() {
            true => cleanup::remove(&resource, cleanup::Gone::IsFine).await,
            false if resource.is_in_machine() => provisioner.clean(cx, machine, &resource).await,
            false => provisioner.release(cx, &resource).await,
        };
        assert!(released.is_ok(), "releasing {resource}: {}", released.unwrap_err());
        cx.released(&resource).unwrap();
    }
}

/// Whether the future ended within so many polls; else it is dropped.
async fn dropped_after<T>(polls: u32, work: impl Future<Output = T>) -> bool {
    let mut work = std::pin::pin!(work);
    let mut polled = 0;
    let limited = std::future::poll_fn(|cx| {
        polled += 1;
        match work.as_mut().poll(cx) {
            std::task::Poll::Ready(_) => std::task::Poll::Ready(true),
            std::task::Poll::Pending if polled >= polls => std::task::Poll::Ready(false),
            std::task::Poll::Pending => std::task::Poll::Pending,
        }
    });
    tokio::time::timeout(Duration::from_secs(120), limited).await.expect("the provisioner does not hang")
}

#[cfg(test)]
mod tests {
    use crate::testing::FakeProvisioner;

    #[tokio::test(flavor = "multi_thread")]
    async fn the_fake_passes() {
        super::suite(&FakeProvisioner::run("echo hello > greeting; cat greeting")).await;
    }
}
