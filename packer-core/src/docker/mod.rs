//! What components that speak to Docker engines and registries share.

#[cfg(feature = "docker-buildkit")]
mod buildkit;
#[cfg(feature = "docker")]
mod client;
pub mod credentials;
#[cfg(feature = "docker-ecr")]
mod ecr;
#[cfg(feature = "docker")]
mod endpoint;
#[cfg(feature = "docker")]
mod http;
#[cfg(feature = "docker")]
mod images;
#[cfg(feature = "docker")]
mod in_flight;
#[cfg(feature = "docker")]
mod lines;
#[cfg(feature = "docker")]
mod login;
#[cfg(feature = "docker")]
mod reference;
#[cfg(feature = "docker")]
pub mod resources;
mod sign_in;
#[cfg(feature = "docker")]
mod ssh;
#[cfg(feature = "docker")]
pub(crate) mod streams;
#[cfg(feature = "docker")]
mod tls;
#[cfg(feature = "docker")]
mod way;

#[cfg(feature = "docker")]
pub use client::{Client, Pieces};
#[cfg(feature = "docker")]
pub use images::BuildContext;
#[cfg(feature = "docker")]
pub use in_flight::InFlight;
#[cfg(feature = "docker")]
pub use login::Login;
#[cfg(feature = "docker")]
pub use reference::Reference;
