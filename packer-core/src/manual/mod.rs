//! The manual: how to embed the library, and how to write components for it.
//!
//! The reference says what each item does; this says which of them to use for what, in which order, and why. Every
//! piece of code here is compiled and, unless it needs a machine, run by `cargo test`.
//!
//! - [`concepts`]: the words (build, machine, resource, artifact, event) and the life of a build.
//! - [`embedding`]: a host of one's own: pipelines in code, templates, events, cancellation, what the library may see.
//! - [`builder`]: a builder from nothing, whole, with the suite that proves it.
//! - [`virtual_machines`]: what builders of virtual machines need beside that: connecting, programs, ports, waiting,
//!   long work, errors.
//! - [`amazon`]: Amazon's EC2: accounts, waiting, what is in the ledger, calls of one's own.
//! - [`provisioner`]: a provisioner from nothing; post-processors and data sources after it.
//! - [`machines`]: how a provisioner talks to a machine.
//! - [`communicator`]: a way into a machine of one's own.
//! - [`secrets`]: what is scrubbed and what a component has to do for it.
//! - [`cache_and_recovery`]: ledgers of runs that died, saved steps, and checkpoints in a builder of one's own.
//! - [`coming_from_packer`]: what differs from Packer 1.16, and why.
//!
//! Programs to copy from are in the folder `examples` of the repository, one idea each.

pub mod amazon;
pub mod builder;
pub mod cache_and_recovery;
pub mod coming_from_packer;
pub mod communicator;
pub mod concepts;
pub mod embedding;
pub mod machines;
pub mod provisioner;
pub mod secrets;
pub mod virtual_machines;
