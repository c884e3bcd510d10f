//! What components are written with: work off the async threads, files that appear whole, temporary files, `{{ … }}` at
//! run time, digests of files, names that nothing else has, free ports, bodies of HTTP answers, scripts, local programs that
//! never outlive the work.

pub mod blocking;
mod body;
mod digest;
#[cfg(feature = "http-client")]
#[cfg_attr(
    not(all(feature = "functions-aws", feature = "functions-vault")),
    allow(dead_code, reason = "each service needs a part of it")
)]
pub(crate) mod http;
mod name;
mod port;
pub mod powershell;
pub mod process;
mod render;
pub mod shell;
#[cfg(any(feature = "docker", feature = "ssh", feature = "winrm"))]
pub(crate) mod stream;
mod temp;
pub(crate) mod whole_file;

pub use body::Body;
pub use digest::{digest_file, digest_files};
pub use name::unique_name;
pub use port::ReservedPort;
pub use render::render;
pub use temp::TempFile;
pub use whole_file::WholeFile;
