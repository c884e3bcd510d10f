//! The steps that the builders are made of, each a call or a few, and the waits between them.

pub(super) mod attributes;
pub(super) mod copy;
pub(super) mod enter;
pub(super) mod fast_launch;
pub(super) mod image;
pub(super) mod key_pair;
mod launch_template;
pub(super) mod network;
pub(super) mod profile;
pub(super) mod register;
pub(super) mod request;
pub(super) mod run;
pub(super) mod security_group;
pub(super) mod session;
pub(super) mod snapshot;
pub(super) mod source;
pub(super) mod spot;
pub(super) mod stop;
pub(super) mod swap;
pub(super) mod validate;
pub(super) mod volume;
