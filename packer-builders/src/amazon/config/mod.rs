//! What the blocks of all Amazon builders have in common, and what can be found wrong with it.

pub(super) mod ami;
pub(super) mod device;
pub(super) mod fast_launch;
pub(super) mod filter;
pub(super) mod kms;
pub(super) mod placement;
pub(super) mod policy;
pub(super) mod registered;
pub(super) mod rules;
pub(super) mod run;
pub(super) mod tags;
