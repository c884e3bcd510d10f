//! Builds machine images in-process: the traits, the engine and the template language.

pub mod diagnostic;
pub mod template;
pub mod value;

pub use diagnostic::{Diagnostic, Diagnostics, Location, Severity, SourceFile, Span};
