//! The `packer` host program: Packer's command line on top of the library.
//!
//! It reads arguments, makes library calls and gives the events of the run to sinks; everything else is the
//! library's. [`run`] is the whole program but for the process around it (`main.rs`), so that tests call it in-process.
//! Paths are relative to the working folder of the process.

mod build;
mod cache;
mod console;
mod fix;
mod flags;
mod fmt;
mod hcl2_upgrade;
mod help;
mod init;
mod inspect;
mod line_editor;
mod log;
mod plan;
mod plugins;
mod progress;
mod prompt;
mod recover;
mod schema;
mod template;
mod ui;
mod validate;
mod version;

use std::collections::BTreeMap;
use std::io::{self, Read, Write};
use std::path::{Path, PathBuf};

use packer_core::{Host, LedgerFolder, Registry};
use tokio::sync::mpsc::UnboundedReceiver;
use tokio::sync::oneshot;

use crate::progress::Bars;
use crate::ui::{Format, Out, Ui};

/// What a process lends to the program.
pub struct Process {
    /// The arguments, without the name of the program.
    pub args: Vec<String>,
    /// The environment variables.
    pub env: BTreeMap<String, String>,
    /// What is read where an argument is `-`.
    pub stdin: Box<dyn Read + Send>,
    /// What that is.
    pub input: Input,
    /// Where all output goes, errors included.
    pub stdout: Box<dyn Write + Send>,
    /// Where the log goes (`PACKER_LOG`).
    pub stderr: Box<dyn Write + Send>,
    /// Whether a person looks at the output: long work then shows bars.
    pub terminal: bool,
    /// What asked the process to stop, each time something does: `interrupt`, `terminated`, `hangup`, `quit`.
    pub signals: UnboundedReceiver<&'static str>,
}

/// What a standard input is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Input {
    /// A terminal, at which a person types.
    Terminal,
    /// A file.
    File,
    /// What another program writes.
    Pipe,
}

impl std::fmt::Debug for Process {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        // Variables and arguments may hold secrets.
        write!(f, "Process({} arguments, {} variables)", self.args.len(), self.env.len())
    }
}

/// Everything was done.
const OK: u8 = 0;
/// Something failed.
const FAILED: u8 = 1;
/// There is no such command.
const UNKNOWN: u8 = 127;

/// Runs one command line and returns the exit code.
pub async fn run(process: Process) -> u8 {
    let Process { mut args, env, stdin, input, stdout, stderr, terminal, signals } = process;
    let format = match args.iter().position(|a| a == "-machine-readable") {
        Some(at) => {
            args.remove(at);
            Format::Machine
        }
        None => Format::Human,
    };
    let bars = (terminal && format == Format::Human).then(Bars::new);
    let ui = Ui { format, out: Out::new(stdout, bars.clone()) };
    let line = CommandLine::of(&args);
    let name = match line.command.or(line.version.then_some("version")) {
        Some("plugin") => Some("plugins"),
        name => name,
    };
    let command = COMMANDS.iter().find(|c| Some(c.name) == name);
    let Some(command) = command else {
        ui.say(&help::program());
        return if line.help { OK } else { UNKNOWN };
    };
    if line.help {
        ui.say(command.usage);
        return OK;
    }
    if line.stray_flags {
        ui.error("Invalid flags before the subcommand. If these flags are for\nthe subcommand, please put them after the subcommand.\n");
        ui.say(&help::program());
        return FAILED;
    }
    let session = Session { ui, env, stdin, input, stderr, bars, signals, usage: command.usage };
    (command.run)(session, line.rest.to_vec()).await
}

/// What a command works with.
pub(crate) struct Session {
    ui: Ui,
    env: BTreeMap<String, String>,
    stdin: Box<dyn Read + Send>,
    input: Input,
    stderr: Box<dyn Write + Send>,
    bars: Option<Bars>,
    signals: UnboundedReceiver<&'static str>,
    usage: &'static str,
}

impl Session {
    /// Says how the command is used, and what was wrong.
    fn misused(&self, stop: flags::Stop) -> u8 {
        self.ui.say(self.usage);
        match stop {
            flags::Stop::Help => OK,
            flags::Stop::Wrong(message) => {
                self.ui.error(&message);
                FAILED
            }
        }
    }

    /// The one argument of a command that takes one.
    fn only_argument(&self, args: &[String]) -> Result<String, u8> {
        match args {
            [one] => Ok(one.clone()),
            _ => {
                self.ui.say(self.usage);
                Err(FAILED)
            }
        }
    }

    /// All of standard input; where it cannot be read, or a signal comes first, it has been said why.
    async fn read_stdin(&mut self) -> Result<Vec<u8>, u8> {
        let mut stdin = std::mem::replace(&mut self.stdin, Box::new(io::empty()));
        let (sender, receiver) = oneshot::channel();
        // Not a task of the runtime: reading cannot be called off, and nobody must wait for it after a signal.
        std::thread::spawn(move || {
            let mut bytes = Vec::new();
            let _ = sender.send(stdin.read_to_end(&mut bytes).map(|_| bytes));
        });
        match self.unless_stopped(receiver).await? {
            Ok(Ok(bytes)) => Ok(bytes),
            Ok(Err(error)) => {
                self.ui.error(&format!("reading standard input: {error}"));
                Err(FAILED)
            }
            Err(_) => Err(FAILED),
        }
    }

    /// What the components of a run may use.
    fn host(&self) -> Host {
        let mut host = Host::new();
        host.temp_dir = self.env.get("TMPDIR").map_or_else(std::env::temp_dir, PathBuf::from);
        host.cache_dir = self.cache_dir();
        host.env.clone_from(&self.env);
        host.prompt(prompt::Terminal::new(self.ui.out.clone(), self.ui.format))
    }

    /// `PACKER_CACHE_DIR`, or the user's cache folder.
    fn cache_dir(&self) -> PathBuf {
        let folder = |name: &str| self.env.get(name).filter(|v| !v.is_empty()).map(Path::new);
        folder("PACKER_CACHE_DIR")
            .map(Path::to_owned)
            .or_else(|| Some(folder("XDG_CACHE_HOME")?.join("packer")))
            .or_else(|| Some(folder("HOME")?.join(".cache/packer")))
            .unwrap_or_else(|| PathBuf::from("packer_cache"))
    }

    /// Where the ledgers of runs are.
    fn ledgers(&self) -> LedgerFolder {
        LedgerFolder::at(self.cache_dir().join("ledger"))
    }
}

/// Every component that templates may name.
fn registry() -> Registry {
    let mut registry = Registry::new();
    packer_builders::register(&mut registry);
    packer_provisioners::register(&mut registry);
    packer_postproc::register(&mut registry);
    registry
}

/// A command of the program.
struct Command {
    name: &'static str,
    summary: &'static str,
    usage: &'static str,
    run: fn(Session, Vec<String>) -> Running,
}

type Running = std::pin::Pin<Box<dyn Future<Output = u8>>>;

const COMMANDS: [Command; 14] = [
    Command {
        name: "build",
        summary: "build image(s) from template",
        usage: build::USAGE,
        run: |session, args| Box::pin(build::run(session, args)),
    },
    Command {
        name: "cache",
        summary: "list or prune saved states of machines",
        usage: cache::USAGE,
        run: |session, args| Box::pin(cache::run(session, args)),
    },
    Command {
        name: "console",
        summary: "creates a console for testing variable interpolation",
        usage: console::USAGE,
        run: |session, args| Box::pin(console::run(session, args)),
    },
    Command {
        name: "fix",
        summary: "fixes templates from old versions of packer",
        usage: fix::USAGE,
        run: |session, args| Box::pin(fix::run(session, args)),
    },
    Command {
        name: "fmt",
        summary: "Rewrites HCL2 config files to canonical format",
        usage: fmt::USAGE,
        run: |session, args| Box::pin(fmt::run(session, args)),
    },
    Command {
        name: "hcl2_upgrade",
        summary: "transform a JSON template into an HCL2 configuration",
        usage: hcl2_upgrade::USAGE,
        run: |session, args| Box::pin(hcl2_upgrade::run(session, args)),
    },
    Command {
        name: "init",
        summary: "Install missing plugins or upgrade plugins",
        usage: init::USAGE,
        run: |session, args| Box::pin(init::run(session, args)),
    },
    Command {
        name: "inspect",
        summary: "see components of a template",
        usage: inspect::USAGE,
        run: |session, args| Box::pin(inspect::run(session, args)),
    },
    Command {
        name: "plan",
        summary: "show what a build would do",
        usage: plan::USAGE,
        run: |session, args| Box::pin(plan::run(session, args)),
    },
    Command {
        name: "plugins",
        summary: "Interact with Packer plugins and catalog",
        usage: plugins::USAGE,
        run: |session, args| Box::pin(plugins::run(session, args)),
    },
    Command {
        name: "recover",
        summary: "remove what a run that was killed has left",
        usage: recover::USAGE,
        run: |session, args| Box::pin(recover::run(session, args)),
    },
    Command {
        name: "schema",
        summary: "print a JSON Schema of templates, for editors",
        usage: schema::USAGE,
        run: |session, args| Box::pin(schema::run(session, args)),
    },
    Command {
        name: "validate",
        summary: "check that a template is valid",
        usage: validate::USAGE,
        run: |session, args| Box::pin(validate::run(session, args)),
    },
    Command {
        name: "version",
        summary: "Prints the Packer version",
        usage: version::USAGE,
        run: |session, args| Box::pin(version::run(session, args)),
    },
];

/// The arguments, taken apart as far as the command.
#[derive(Debug, PartialEq)]
struct CommandLine<'a> {
    command: Option<&'a str>,
    rest: &'a [String],
    /// Help was asked for, before or behind the command.
    help: bool,
    /// The version was asked for.
    version: bool,
    /// Flags stand before the command.
    stray_flags: bool,
}

impl<'a> CommandLine<'a> {
    fn of(args: &'a [String]) -> Self {
        let mut line = Self { command: None, rest: &[], help: false, version: false, stray_flags: false };
        for (i, arg) in args.iter().enumerate() {
            match arg.as_str() {
                "--" => break,
                "-h" | "-help" | "--help" => line.help = true,
                "-v" | "-version" | "--version" if line.command.is_none() => line.version = true,
                flag if line.command.is_none() && flag.starts_with('-') => line.stray_flags = true,
                command if line.command.is_none() && !command.is_empty() => {
                    line.command = Some(command);
                    line.rest = args.get(i + 1..).unwrap_or_default();
                }
                _ => {}
            }
        }
        line
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_command_is_the_first_word() {
        for (args, command, rest, help, version, stray) in [
            (vec![], None, 0, false, false, false),
            (vec!["build", "-force", "x"], Some("build"), 2, false, false, false),
            (vec!["build", "x", "-h"], Some("build"), 2, true, false, false),
            (vec!["--help", "build"], Some("build"), 0, true, false, false),
            (vec!["build", "--", "-h"], Some("build"), 2, false, false, false),
            (vec!["--version"], None, 0, false, true, false),
            (vec!["-x", "build", "-v"], Some("build"), 1, false, false, true),
        ] {
            let args: Vec<String> = args.into_iter().map(str::to_owned).collect();
            let line = CommandLine::of(&args);
            let seen = (line.command, line.rest.len(), line.help, line.version, line.stray_flags);
            assert_eq!(seen, (command, rest, help, version, stray), "{args:?}");
        }
    }
}

/// The README's examples, compiled and run as documentation tests are.
#[cfg(doctest)]
#[doc = include_str!("../../README.md")]
struct Readme;
