//! The builder `qemu`, against real QEMU: in software, which is the same everywhere.
#![cfg(all(target_os = "linux", feature = "qemu"))]
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    reason = "tests stop at the first surprise"
)]

mod accelerators;
mod boot_tests;
mod checkpoints;
mod console;
mod failures;
mod folders;
mod images;
mod ports;
mod recovery;
mod support;
