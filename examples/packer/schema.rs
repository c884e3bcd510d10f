//! `packer schema`: what a template may hold, for editors.

use packer_core::template::schema;

use crate::flags;
use crate::{FAILED, OK, Session, registry};

pub(crate) const USAGE: &str = "Usage: packer schema

  Prints a JSON Schema of .pkr.json templates with every component of this program: its arguments with their docs,
  types and defaults. Editors complete and check templates by it.
";

pub(crate) async fn run(session: Session, args: Vec<String>) -> u8 {
    match flags::parse(&args, &mut []) {
        Ok([]) => {
            session.ui.raw(format!("{:#}\n", schema(&registry())).as_bytes());
            OK
        }
        Ok(_) => {
            session.ui.say(USAGE);
            FAILED
        }
        Err(stop) => session.misused(stop),
    }
}
