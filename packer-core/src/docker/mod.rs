//! What components that speak to Docker engines and registries share.

pub mod credentials;
