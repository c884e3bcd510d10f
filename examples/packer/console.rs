//! `packer console`: values of expressions, for people at a terminal and for scripts.

use std::io::{BufRead, BufReader, Read};
use std::path::PathBuf;

use packer_core::Diagnostics;
use packer_core::template::{Console, Inputs, LARGEST_FILE, Language, Response, Template};

use crate::flags;
use crate::line_editor::LineEditor;
use crate::template::{TemplateFlags, apart};
use crate::ui::Ui;
use crate::{FAILED, Input, OK, Session, registry, too_large};

pub(crate) const USAGE: &str = "Usage: packer console [options] [TEMPLATE]

  Shows the values of expressions, which can use the variables and locals of the
  template and every function. Data sources are read. At a terminal names are
  completed with the Tab key; of what comes through a pipe each line is
  evaluated, and the value of the last one is shown.

Options:

  -config-type=json|hcl2       The language of a template whose name does not say.
  -machine-readable            Output for programs.
  -use-sequential-evaluation   Evaluate all data sources before all locals.
  -var 'key=value'             Set a variable; may be repeated.
  -var-file=path               Read variables from a file; may be repeated.
";

/// Where what was typed is kept, below the cache folder.
const HISTORY: &str = "console_history";

pub(crate) async fn run(mut session: Session, args: Vec<String>) -> u8 {
    let mut template = TemplateFlags::default();
    let path = match flags::parse(&args, &mut template.flags()) {
        Ok([]) => None,
        Ok(arguments) => match session.only_argument(arguments) {
            Ok(path) => Some(path),
            Err(code) => return code,
        },
        Err(stop) => return session.misused(stop),
    };
    let inputs = template.inputs(&session);
    let console = match open(&mut session, path.as_deref(), inputs).await {
        Ok(console) => console,
        Err(code) => return code,
    };
    let history = session.cache_dir().join(HISTORY);
    let Session { ui, stdin, input, mut signals, .. } = session;
    let terminal = Terminal::as_it_is();
    let answered = tokio::task::spawn_blocking(move || match input {
        Input::Terminal => typed(&console, &ui, history),
        Input::File => whole(&ui, stdin, |lines| each(&console, &ui, lines)),
        Input::Pipe => whole(&ui, stdin, |lines| last(&console, &ui, lines)),
    });
    tokio::select! {
        // A panic in there has been shown by then.
        code = answered => code.unwrap_or(FAILED),
        // At the terminal Ctrl-C is a key while a line is edited, and a signal while one is evaluated.
        Some(_) = signals.recv() => {
            terminal.restore();
            FAILED
        }
    }
}

/// The settings of the terminal, which editing a line changes for that time.
struct Terminal {
    #[cfg(unix)]
    settings: Option<rustix::termios::Termios>,
}

impl Terminal {
    fn as_it_is() -> Self {
        Self {
            #[cfg(unix)]
            settings: rustix::termios::tcgetattr(std::io::stdin()).ok(),
        }
    }

    fn restore(&self) {
        #[cfg(unix)]
        if let Some(settings) = &self.settings {
            use rustix::termios::{OptionalActions, tcsetattr};
            // A terminal that is gone needs no settings.
            let _ = tcsetattr(std::io::stdin(), OptionalActions::Now, settings);
        }
    }
}

/// The console over a template, or over nothing.
async fn open(session: &mut Session, path: Option<&str>, inputs: Inputs) -> Result<Console, u8> {
    let template = match path {
        Some(path) => session.load(path, &inputs).await?,
        None => empty(&inputs).map_err(|findings| session.failed(&findings))?,
    };
    // What is wrong with the template is not told: what can be evaluated can be looked at.
    let work = apart(async move { template.console(&registry(), inputs).await });
    let opened = session.unless_stopped(work).await?;
    opened.map_err(|findings| session.failed(&findings))
}

/// A template that declares nothing, in the language that is asked for.
fn empty(inputs: &Inputs) -> Result<Template, Diagnostics> {
    let nothing: [(&str, &str); 0] = [];
    let template = match inputs.language_of("") {
        Language::LegacyJson => Template::from_legacy("", "{\"builders\": [{\"type\": \"null\"}]}")?,
        _ => Template::from_texts(nothing)?,
    };
    template.check(inputs).into_result(template)
}

/// Answers a person at the terminal.
fn typed(console: &Console, ui: &Ui, history: PathBuf) -> u8 {
    match LineEditor::new(console.clone(), history) {
        Ok(editor) => each(console, ui, editor),
        Err(why) => {
            ui.error(&format!("Error initializing console: {why}"));
            FAILED
        }
    }
}

/// Answers every line until one says to leave; a wrong one does not make the exit code.
fn each(console: &Console, ui: &Ui, lines: impl Iterator<Item = String>) -> u8 {
    for line in lines {
        match console.respond(&line) {
            Ok(Response::Text(text)) if text.is_empty() => {}
            Ok(Response::Text(text)) => ui.say(&text),
            Ok(_) => break,
            Err(findings) => ui.diagnostics(&findings),
        }
    }
    OK
}

/// Shows the answer to the last line. What is wrong with a line is told at once, and makes the exit code.
fn last(console: &Console, ui: &Ui, lines: impl Iterator<Item = String>) -> u8 {
    let (mut answer, mut code) = (String::new(), OK);
    for line in lines {
        answer = match console.respond(&line) {
            Ok(Response::Text(text)) => text,
            Ok(_) => String::new(),
            Err(findings) => {
                ui.diagnostics(&findings);
                // A legacy JSON template has no errors here, Packer says.
                code = if console.language() == Language::LegacyJson { OK } else { FAILED };
                String::new()
            }
        };
    }
    ui.say(&answer);
    code
}

/// Answers the lines of an input until it ends or fails, or one of them is larger than files may be.
fn whole(
    ui: &Ui,
    input: Box<dyn Read + Send>,
    answer: impl FnOnce(&mut dyn Iterator<Item = String>) -> u8,
) -> u8 {
    let (mut input, mut larger) = (BufReader::new(input), false);
    let code = answer(&mut std::iter::from_fn(|| {
        let mut line = Vec::new();
        let read = (&mut input).take(LARGEST_FILE as u64 + 1).read_until(b'\n', &mut line).unwrap_or(0);
        larger = read > LARGEST_FILE;
        (read > 0 && !larger).then(|| String::from_utf8_lossy(&line).into_owned())
    }));
    if larger {
        ui.diagnostics(&too_large().into());
        return FAILED;
    }
    code
}
