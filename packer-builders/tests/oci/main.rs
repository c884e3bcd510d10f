//! The builder `oci`, against real runtimes, engines and registries.
#![cfg(all(feature = "oci", unix))]
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    reason = "tests stop at the first surprise"
)]

mod bases;
mod behaviour;
mod images;
mod peers;
mod recovery;
mod support;
