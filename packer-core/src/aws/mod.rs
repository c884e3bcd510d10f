//! Amazon's AWS: the options by which components reach an account, credentials, and signed calls.
//!
//! Credentials are found as AWS's own tools find them (variables, profiles, single sign-on, web identity,
//! `credential_process`, Vault, the container, the machine), with the variables, files and home folder that the host lends and
//! nothing else. A component has an [`AccessConfig`] among its options and opens a [`Session`] when it runs:
//!
//! ```no_run
//! # async fn read(cx: &packer_core::Context) -> packer_core::Result<()> {
//! use packer_core::aws::{AccessConfig, Service};
//! let session = AccessConfig::in_region("eu-west-1").session(cx).await?;
//! let asked = serde_json::json!({ "Name": "/web/version" });
//! let answer = session.json(Service::SSM, "GetParameter", &asked).await?;
//! cx.say(format!("{}", answer["Parameter"]["Value"]));
//! # Ok(())
//! # }
//! ```

mod access;
mod call;
mod chain;
mod credentials;
#[cfg(feature = "aws-ec2")]
pub mod ec2;
mod failure;
mod image_name;
mod metadata;
mod process;
mod profiles;
mod role;
mod s3;
mod service;
mod session;
mod sign;
mod sso;
#[cfg(test)]
mod tests;
mod vault;
mod xml;

pub use access::{AccessConfig, AssumeRole, Polling, VaultAwsEngine};
pub use credentials::Credentials;
pub use failure::{ServiceError, is_throttling};
pub use image_name::{clean_image_name, is_image_name};
pub use s3::Upload;
pub use service::Service;
use session::Account;
pub use session::Session;
pub use xml::Xml;

use crate::context::Host;
use crate::language::functions::Capabilities;

/// What a host lends to the search for credentials.
pub(crate) fn lent(host: &Host) -> Capabilities {
    let mut lent = Capabilities::real_files(".", ".");
    lent.home = ["HOME", "USERPROFILE"].iter().find_map(|name| host.env.get(*name)).map(Into::into);
    lent.env = std::sync::Arc::new(host.env.clone());
    lent
}
