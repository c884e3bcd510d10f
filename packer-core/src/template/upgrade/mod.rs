//! Templates of the first generation, brought up to date: [`fix`] replaces what is old in them, [`to_hcl`] writes them
//! in native syntax.
//!
//! Both work on the JSON document; what they write is loaded as any other template is.

mod annotations;
mod body;
mod document;
mod fix;
mod fixes;
mod hcl;
mod names;
mod plugins;
mod read;
mod steps;
mod template;
mod text;

pub use fix::{Fixed, Fixer, fix, fixers};
pub use hcl::{Upgraded, to_hcl};
pub use read::read;
