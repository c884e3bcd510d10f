//! What components are written with: work off the async threads, files that appear whole, temporary files, bodies of HTTP
//! answers, `{{ … }}` at run time, scripts and local programs.

pub mod blocking;
mod body;
#[cfg(feature = "http-client")]
#[cfg_attr(
    not(all(feature = "functions-aws", feature = "functions-vault")),
    allow(dead_code, reason = "each service needs a part of it")
)]
pub(crate) mod http;
mod render;
pub mod shell;
mod temp;
mod whole_file;

pub use body::Body;
pub use render::render;
pub use temp::TempFile;
pub use whole_file::WholeFile;
