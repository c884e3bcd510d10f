//! The template language: from texts to values.
//!
//! [`syntax`] makes trees of texts, [`eval`] values of trees, with the [`functions`] that a host grants; [`go_template`]
//! is the language of `{{ … }}` within strings, and [`fmt`] the canonical layout. Nothing here knows what a source or a build
//! is: that is [`template`](crate::template)'s.

pub mod eval;
pub mod fmt;
pub mod functions;
pub mod go_template;
pub(crate) mod go_time;
mod read;
pub mod syntax;

pub(crate) use read::{LARGEST, decode, is_named_pipe, read_bounded};
