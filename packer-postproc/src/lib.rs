//! Post-processors of Packer's own. Each is a cargo feature of its name.
//!
//! ```
//! let mut registry = packer_core::Registry::new();
//! packer_postproc::register(&mut registry);
//! assert!(registry.get_post_processor("manifest").is_some());
//! ```

use packer_core::Registry;

#[cfg(feature = "amazon-import")]
mod amazon_import;
#[cfg(feature = "artifice")]
mod artifice;
#[cfg(feature = "checksum")]
mod checksum;
#[cfg(feature = "compress")]
mod compress;
#[cfg(any(
    feature = "docker-import",
    feature = "docker-push",
    feature = "docker-save",
    feature = "docker-tag"
))]
mod docker;
#[cfg(feature = "manifest")]
mod manifest;
#[cfg(feature = "shell-local")]
mod shell_local;
#[cfg(feature = "vagrant")]
mod vagrant;

#[cfg(feature = "amazon-import")]
pub use amazon_import::AmazonImport;
#[cfg(feature = "artifice")]
pub use artifice::Artifice;
#[cfg(feature = "checksum")]
pub use checksum::Checksum;
#[cfg(feature = "compress")]
pub use compress::Compress;
#[cfg(feature = "docker-import")]
pub use docker::import::DockerImport;
#[cfg(feature = "docker-push")]
pub use docker::push::DockerPush;
#[cfg(feature = "docker-save")]
pub use docker::save::DockerSave;
#[cfg(feature = "docker-tag")]
pub use docker::tag::DockerTag;
#[cfg(feature = "manifest")]
pub use manifest::Manifest;
#[cfg(feature = "shell-local")]
pub use packer_core::kit::shell::LocalShell;
#[cfg(feature = "shell-local")]
pub use shell_local::ShellLocal;
#[cfg(feature = "vagrant")]
pub use vagrant::{Vagrant, VagrantOverride};

/// Registers every post-processor that the crate's features hold, under the names of Packer's templates.
pub fn register(registry: &mut Registry) {
    #[cfg(feature = "amazon-import")]
    registry
        .post_processor::<AmazonImport>("amazon-import")
        .cleans_names("amazon-import", packer_core::aws::clean_image_name)
        .provides("github.com/hashicorp/amazon");
    #[cfg(feature = "artifice")]
    registry.post_processor::<Artifice>("artifice");
    #[cfg(feature = "checksum")]
    registry.post_processor::<Checksum>("checksum");
    #[cfg(feature = "compress")]
    registry.post_processor::<Compress>("compress");
    #[cfg(feature = "docker-import")]
    registry.post_processor::<DockerImport>("docker-import");
    #[cfg(feature = "docker-push")]
    registry.post_processor::<DockerPush>("docker-push");
    #[cfg(feature = "docker-save")]
    registry.post_processor::<DockerSave>("docker-save");
    #[cfg(feature = "docker-tag")]
    registry.post_processor::<DockerTag>("docker-tag");
    #[cfg(feature = "manifest")]
    registry.post_processor::<Manifest>("manifest");
    #[cfg(feature = "shell-local")]
    registry.post_processor::<ShellLocal>("shell-local");
    #[cfg(feature = "vagrant")]
    registry.post_processor::<Vagrant>("vagrant");
    let _ = registry; // without any feature there is nothing to register
}
