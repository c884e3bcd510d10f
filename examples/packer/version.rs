//! `packer version`: the version of Packer whose templates and output this program speaks.

use packer_core::VERSION;

use crate::{OK, Session};

pub(crate) const USAGE: &str = "Usage: packer version

  Prints the version of Packer whose templates this program builds.
";

pub(crate) async fn run(session: Session, _args: Vec<String>) -> u8 {
    session.ui.machine("version", &[VERSION]);
    session.ui.machine("version-prelease", &[""]);
    session.ui.machine("version-commit", &[""]);
    session.ui.say(&format!("Packer v{VERSION}"));
    OK
}
