//! Builders of Packer's own, and its data sources. Each is a cargo feature of its name.
//!
//! ```
//! let mut registry = packer_core::Registry::new();
//! packer_builders::register(&mut registry);
//! assert!(registry.get_builder("null").is_some());
//! ```

use packer_core::Registry;

#[cfg(feature = "amazon")]
pub mod amazon;
pub mod data_source;
#[cfg(feature = "docker")]
mod docker;
#[cfg(feature = "file")]
mod file;
#[cfg(feature = "null")]
mod null;
#[cfg(all(feature = "oci", unix))]
mod oci;
#[cfg(any(feature = "amazon", feature = "qemu"))]
mod printed_keys;
#[cfg(feature = "qemu")]
mod qemu;
#[cfg(any(feature = "http", feature = "oci"))]
mod web;

#[cfg(feature = "amazon")]
pub use amazon::{AmazonChroot, AmazonEbs, AmazonEbsSurrogate, AmazonEbsVolume, AmazonInstance};
#[cfg(feature = "docker")]
pub use docker::{Docker, DockerBuild};
#[cfg(feature = "file")]
pub use file::FileBuilder;
#[cfg(feature = "null")]
pub use null::Null;
#[cfg(all(feature = "oci", unix))]
pub use oci::{Compression, Layers, Oci};
#[cfg(feature = "qemu")]
pub use qemu::{Qemu, QemuImgArgs};

/// Registers every builder and data source that the crate's features hold, under the names of Packer's templates.
pub fn register(registry: &mut Registry) {
    #[cfg(feature = "amazon")]
    amazon::register(registry);
    #[cfg(feature = "docker")]
    registry.builder::<Docker>("docker").provides("github.com/hashicorp/docker");
    #[cfg(feature = "file")]
    registry.builder::<FileBuilder>("file");
    #[cfg(feature = "null")]
    registry.builder::<Null>("null").data_source::<data_source::NullData>("null");
    #[cfg(all(feature = "oci", unix))]
    registry.builder::<Oci>("oci");
    #[cfg(feature = "qemu")]
    registry.builder::<Qemu>("qemu").provides("github.com/hashicorp/qemu");
    #[cfg(feature = "http")]
    registry.data_source::<data_source::Http>("http");
    let _ = registry; // without any feature there is nothing to register
}
