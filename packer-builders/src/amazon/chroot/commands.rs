//! Commands on this computer, each put into what the template wraps around them.

use packer_core::kit::process::{Captured, Program};
use packer_core::{Command, Context, Error, ExitStatus, Fault, Result, kit};

/// How much of what a command prints is kept, in bytes.
const MOST_KEPT: usize = 1 << 20;

/// Runs commands.
#[derive(Debug, Clone)]
pub(super) struct Commands {
    /// What a command is put into, as `sudo {{.Command}}`; empty where that is nothing.
    pub(super) wrapper: String,
}

impl Commands {
    fn wrapped(&self, cx: &Context, command: &str) -> Result<String> {
        if self.wrapper.is_empty() {
            return Ok(command.to_owned());
        }
        let wrapped = kit::render_known(cx, &self.wrapper, &[("Command", command)]);
        wrapped.map_err(|e| e.context("Error processing command_wrapper"))
    }

    /// Runs a command; what it printed and how it ended.
    pub(super) async fn run(&self, cx: &Context, command: &str) -> Result<Captured> {
        let program = shell(&self.wrapped(cx, command)?).env("LANG", "C");
        cx.until_cancelled(program.capture(cx, MOST_KEPT)).await
    }

    /// Runs a command that must succeed.
    pub(super) async fn must(&self, cx: &Context, command: &str) -> Result<()> {
        self.run(cx, command).await?.success().map(drop)
    }

    /// Runs a command of the template's, and shows what it prints.
    pub(super) async fn show(&self, cx: &Context, command: &str) -> Result<()> {
        let wrapped = self.wrapped(cx, command)?;
        cx.say(format!("Executing command: {wrapped}"));
        let status = cx.until_cancelled(shell(&wrapped).show(cx)).await?;
        match status.success() {
            true => Ok(()),
            false => Err(Error::new(
                Fault::User,
                format!("Received non-zero exit code {} from command: {wrapped}", status.code()),
            )),
        }
    }

    /// Runs a command with the streams of `streams`, whose text is what the command was before it was put into others.
    pub(super) async fn exec(&self, cx: &Context, command: &str, streams: Command<'_>) -> Result<ExitStatus> {
        let program = shell(&self.wrapped(cx, command)?).env("LANG", "C").start_piped(cx)?;
        cx.until_cancelled(program.exchange(streams)).await
    }
}

fn shell(text: &str) -> Program {
    Program::new("/bin/sh").args(["-c", text])
}

/// A text as one word of a shell: in double quotes, so that it can stand in a wrapper that has single ones.
pub(super) fn quoted(text: &str) -> String {
    let mut word = String::from("\"");
    for c in text.chars() {
        if matches!(c, '"' | '\\' | '$' | '`') {
            word.push('\\');
        }
        word.push(c);
    }
    word.push('"');
    word
}

/// The same, with quotes only where it needs them.
pub(super) fn word(text: &str) -> String {
    let is_plain = |c: char| c.is_alphanumeric() || "/._-+=:,@%".contains(c);
    if !text.is_empty() && text.chars().all(is_plain) { text.to_owned() } else { quoted(text) }
}

#[cfg(test)]
mod tests {
    use super::*;
    use packer_core::testing::Bench;

    #[test]
    fn a_word_is_one_word() {
        assert_eq!(word("/mnt/xvdf/größe"), "/mnt/xvdf/größe");
        assert_eq!(word("a b"), r#""a b""#);
        assert_eq!(word(""), r#""""#);
        assert_eq!(quoted(r#"echo "$x" `y` \n"#), r#""echo \"\$x\" \`y\` \\n""#);
    }

    #[tokio::test]
    async fn a_wrapper_gets_every_command() {
        let bench = Bench::new();
        let file = bench.folder().join("commands");
        let commands = Commands { wrapper: format!("echo '{{{{.Command}}}}' >> {}", file.display()) };
        commands.must(bench.context(), "mount /dev/xvdf1 /mnt").await.unwrap();
        commands.show(bench.context(), "mkfs").await.unwrap();
        assert_eq!(std::fs::read_to_string(file).unwrap(), "mount /dev/xvdf1 /mnt\nmkfs\n");
        let plain = Commands { wrapper: String::new() };
        let failed = plain.show(bench.context(), "exit 3").await.unwrap_err();
        assert_eq!(failed.to_string(), "Received non-zero exit code 3 from command: exit 3");
    }
}
