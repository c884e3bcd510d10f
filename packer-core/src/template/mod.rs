//! Templates: from text to a pipeline.

pub mod eval;
pub mod functions;
pub mod go_template;
pub(crate) mod go_time;
pub mod syntax;
