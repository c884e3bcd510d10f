//! What the program says about itself.

use crate::COMMANDS;

/// The commands, one a line.
pub(crate) fn program() -> String {
    let mut text =
        "Usage: packer [--version] [--help] <command> [<args>]\n\nAvailable commands are:\n".to_owned();
    for command in &COMMANDS {
        text.push_str(&format!("    {:<21} {}\n", command.name, command.summary));
    }
    text
}
