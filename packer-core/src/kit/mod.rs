//! What components are written with: work off the async threads, files that appear whole, temporary files, `{{ … }}` at
//! run time, digests of files, names that nothing else has, free ports, bodies of HTTP answers, scripts, local programs that
//! never outlive the work; boot commands, VNC and the text of a screen.

pub mod blocking;
mod body;
#[cfg(feature = "machines")]
pub mod boot_command;
#[cfg(feature = "machines")]
mod copy;
mod digest;
#[cfg(feature = "machines")]
pub mod download;
mod folder;
#[cfg(feature = "http-client")]
#[cfg_attr(
    not(all(feature = "functions-aws", feature = "functions-vault")),
    allow(dead_code, reason = "each service needs a part of it")
)]
pub(crate) mod http;
#[cfg(feature = "machines")]
pub mod http_server;
mod lock_file;
#[cfg(feature = "machines")]
pub mod media;
mod name;
mod port;
pub mod powershell;
pub mod process;
mod render;
#[cfg(feature = "machines")]
pub mod screen;
pub mod shell;
#[cfg(any(feature = "docker", feature = "ssh", feature = "winrm"))]
pub(crate) mod stream;
mod temp;
#[cfg(any(feature = "aws-requests", feature = "functions-vault"))]
pub(crate) mod vault;
#[cfg(feature = "machines")]
pub mod vnc;
pub(crate) mod whole_file;

pub use body::Body;
#[cfg(feature = "machines")]
pub use copy::copy_file;
pub use digest::{digest_file, digest_files};
pub use folder::private_folder;
pub use lock_file::{Locked, try_lock};
pub use name::{failed_test_name, unique_name};
pub use port::ReservedPort;
pub use render::{render, render_facts, render_known};
pub use temp::TempFile;
pub use whole_file::WholeFile;
