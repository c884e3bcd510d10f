//! Media made for one machine: a CD and a floppy with answers for its installer.
//!
//! Both are written by this process. The same input gives the same bytes: files have the times they have on this computer,
//! texts and folders made for them the first day of 1980, the oldest that both kinds of media can hold.

mod cd;
mod fat12;
mod find;
mod floppy;
mod iso9660;
mod names;
mod tree;

pub use cd::{CdConfig, CdImage};
pub use floppy::{FloppyConfig, FloppyImage};

#[cfg(test)]
mod tests;
