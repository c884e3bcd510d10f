//! The `packer` host program: Packer's command line on top of the library.
//!
//! It reads arguments, makes library calls and gives the events of the run to sinks; everything else is the
//! library's. [`run`] is the whole program but for the process around it (`main.rs`), so that tests call it in-process.
//! Paths are relative to the working folder of the process.

mod build;
mod cache;
mod complete;
mod console;
mod fix;
mod flags;
mod fmt;
mod hcl2_upgrade;
mod help;
mod init;
mod inspect;
mod install;
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
use std::path::PathBuf;

use packer_core::template::LARGEST_FILE;
use packer_core::{Diagnostic, Engine, Host, LedgerFolder, Registry};
use tokio::sync::mpsc::UnboundedReceiver;
use tokio::sync::oneshot;

use crate::log::Log;
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
    let Process { mut args, env, stdin, input, stdout, stderr, terminal, mut signals } = process;
    if let Some(line) = complete::Line::asked_for(&env, &args) {
        let ui = Ui { format: Format::Human, out: Out::new(stdout, None) };
        return complete::run(&line, &ui, &env, &mut signals).await;
    }
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
    let Some(log) = Log::open(&env, stderr, &mut signals).await else { return FAILED };
    log.add(&format!("version {} of the host program", packer_core::VERSION));
    if line.install || line.uninstall {
        return install::run(&ui, &env, line.install, line.uninstall);
    }
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
    let session = Session { ui, env, stdin, input, log: log.clone(), bars, signals, usage: command.usage };
    log.add(&format!("the command {} with the cache folder {}", command.name, session.cache_dir().display()));
    let code = (command.run)(session, line.rest.to_vec()).await;
    log.add(&format!("exit code {code}"));
    code
}

/// Does what may wait for other programs (reading a pipe does) on a thread of its own. Not a task of the runtime: such work
/// cannot be called off, and nobody must wait for it after a signal. `None` where it panicked.
async fn on_a_thread<T: Send + 'static>(work: impl FnOnce() -> T + Send + 'static) -> Option<T> {
    let (sender, receiver) = oneshot::channel();
    std::thread::spawn(move || {
        let _ = sender.send(work());
    });
    receiver.await.ok()
}

/// What a command works with.
pub(crate) struct Session {
    ui: Ui,
    env: BTreeMap<String, String>,
    stdin: Box<dyn Read + Send>,
    input: Input,
    log: Log,
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

    /// All of standard input; where it cannot be read or is larger than files may be, or a signal comes first, it has been
    /// said why.
    async fn read_stdin(&mut self) -> Result<Vec<u8>, u8> {
        let stdin = std::mem::replace(&mut self.stdin, Box::new(io::empty()));
        let read = self.reading(move || {
            let mut bytes = Vec::new();
            stdin.take(LARGEST_FILE as u64 + 1).read_to_end(&mut bytes).map(|_| bytes)
        });
        match read.await? {
            Ok(bytes) if bytes.len() > LARGEST_FILE => Err(self.failed(&too_large().into())),
            Ok(bytes) => Ok(bytes),
            Err(error) => {
                self.ui.error(&format!("reading standard input: {error}"));
                Err(FAILED)
            }
        }
    }

    /// Does what reads files, which may be pipes, unless a signal comes first; then it has been said.
    async fn reading<T: Send + 'static>(
        &mut self,
        work: impl FnOnce() -> T + Send + 'static,
    ) -> Result<T, u8> {
        // A panic in there has been shown by then.
        self.unless_stopped(on_a_thread(work)).await?.ok_or(FAILED)
    }

    /// An engine with what the host lends; the log hears of everything.
    fn engine(&self) -> Engine {
        let engine = Engine::new().host(self.host());
        match self.log.is_on() {
            true => engine.events(self.log.clone()),
            false => engine,
        }
    }

    /// What the components of a run may use.
    fn host(&self) -> Host {
        let host = Host::from_env(self.env.clone());
        host.prompt(prompt::Terminal::new(self.ui.out.clone(), self.ui.format))
    }

    /// `PACKER_CACHE_DIR`, or the user's cache folder.
    fn cache_dir(&self) -> PathBuf {
        Host::from_env(self.env.clone()).cache_dir
    }

    /// Where the ledgers of runs are.
    fn ledgers(&self) -> LedgerFolder {
        LedgerFolder::at(self.cache_dir().join(".ledger"))
    }
}

/// What is said of a standard input without an end.
fn too_large() -> Diagnostic {
    let most = LARGEST_FILE >> 20;
    Diagnostic::error("Failed to read file").detail(format!("\"-\" is larger than {most} MiB."))
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
#[derive(Debug, Default, PartialEq)]
struct CommandLine<'a> {
    command: Option<&'a str>,
    rest: &'a [String],
    /// Help was asked for, before or behind the command.
    help: bool,
    /// The version was asked for.
    version: bool,
    /// Completion is to be set up in the user's shells.
    install: bool,
    /// It is to be taken out of them.
    uninstall: bool,
    /// Flags stand before the command.
    stray_flags: bool,
}

impl<'a> CommandLine<'a> {
    fn of(args: &'a [String]) -> Self {
        let mut line = Self { rest: &[], ..Self::default() };
        for (i, arg) in args.iter().enumerate() {
            match arg.as_str() {
                "--" => break,
                "-h" | "-help" | "--help" => line.help = true,
                "-v" | "-version" | "--version" if line.command.is_none() => line.version = true,
                "-autocomplete-install" | "--autocomplete-install" if line.command.is_none() => {
                    line.install = true;
                }
                "-autocomplete-uninstall" | "--autocomplete-uninstall" if line.command.is_none() => {
                    line.uninstall = true;
                }
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
