//! Data sources: what templates look up before builds are known.

#[cfg(feature = "http")]
mod http;
#[cfg(feature = "null")]
mod null;

#[cfg(feature = "amazon")]
pub use crate::amazon::data::{AmazonAmi, AmazonParameterStore, AmazonSecretsManager};
#[cfg(feature = "http")]
pub use http::Http;
#[cfg(feature = "null")]
pub use null::NullData;
