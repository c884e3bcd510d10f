//! Templates: from text to a pipeline.

pub(crate) mod go_time;

pub mod functions;
