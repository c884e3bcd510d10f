//! Programs for the machine's `/bin/sh` that come with a command's input, whatever shell the user logs in to.

/// The command whose input begins with a program of this many bytes: the machine's `/bin/sh` runs it, and the program reads
/// the rest of the input.
///
/// The text means the same to the login shells that are not POSIX's (csh, fish). The program is read byte by byte, since what
/// follows is not the shell's; it must be short. Only for communicators that
/// [pass input](super::Communicator::passes_input).
///
/// ```
/// let program = "exec tar -xf -\n";
/// let command = packer_core::communicator::program_on_input(program.len());
/// assert_eq!(command, r#"/bin/sh -c 'eval "$(dd bs=1 count=15 2>/dev/null)"'"#);
/// // Its input: the program, and behind it the archive.
/// ```
pub fn program_on_input(bytes: usize) -> String {
    format!("/bin/sh -c 'eval \"$(dd bs=1 count={bytes} 2>/dev/null)\"'")
}
