//! Templates: from text to a pipeline.

pub mod go_template;
pub(crate) mod go_time;

pub mod functions;
