//! Lines typed at the terminal: edited, completed, and remembered from one time to the next.

use std::path::PathBuf;

use packer_core::template::Console;
use rustyline::completion::Completer;
use rustyline::config::Configurer;
use rustyline::highlight::Highlighter;
use rustyline::hint::Hinter;
use rustyline::history::FileHistory;
use rustyline::validate::{ValidationContext, ValidationResult, Validator};
use rustyline::{
    Cmd, CompletionType, ConditionalEventHandler, Context, Editor, Event, EventContext, EventHandler, Helper,
    KeyEvent, Movement, RepeatCount,
};

/// How many lines are remembered.
const REMEMBERED: usize = 1000;

/// The lines of a person, until they leave.
pub(crate) struct LineEditor {
    editor: Editor<Names, FileHistory>,
    history: PathBuf,
}

impl LineEditor {
    /// Completes by what the console knows; `history` is the file of what was typed before.
    pub(crate) fn new(console: Console, history: PathBuf) -> rustyline::Result<Self> {
        let mut editor = Editor::new()?;
        editor.set_completion_type(CompletionType::List);
        editor.set_max_history_size(REMEMBERED)?;
        editor.set_helper(Some(Names(console)));
        editor.bind_sequence(KeyEvent::ctrl('C'), EventHandler::Conditional(Box::new(CtrlC)));
        // The first time there is none; a broken one is no reason to type nothing.
        let _ = editor.load_history(&history);
        Ok(Self { editor, history })
    }

    /// Remembers a line, in this process and in the file.
    fn remember(&mut self, line: &str) {
        if !matches!(self.editor.add_history_entry(line), Ok(true)) {
            return;
        }
        if let Some(folder) = self.history.parent() {
            // Whatever cannot be written is not there the next time.
            let _ = std::fs::create_dir_all(folder);
        }
        let _ = self.editor.append_history(&self.history);
    }
}

impl Iterator for LineEditor {
    type Item = String;

    fn next(&mut self) -> Option<String> {
        // An end of the input, Ctrl-C or a terminal that is gone: nobody types any more.
        let line = self.editor.readline("> ").ok()?;
        self.remember(&line);
        Some(line)
    }
}

/// Ctrl-C drops what was typed; on an empty line it leaves.
struct CtrlC;

impl ConditionalEventHandler for CtrlC {
    fn handle(&self, _: &Event, _: RepeatCount, _: bool, cx: &EventContext<'_>) -> Option<Cmd> {
        (!cx.line().is_empty()).then_some(Cmd::Kill(Movement::WholeBuffer))
    }
}

/// Completes names, and asks for the next line while a bracket is open.
struct Names(Console);

impl Completer for Names {
    type Candidate = String;

    fn complete(&self, line: &str, at: usize, _: &Context<'_>) -> rustyline::Result<(usize, Vec<String>)> {
        let completion = self.0.complete(line, at);
        Ok((completion.start, completion.candidates))
    }
}

impl Validator for Names {
    fn validate(&self, cx: &mut ValidationContext<'_>) -> rustyline::Result<ValidationResult> {
        Ok(match self.0.is_incomplete(cx.input()) {
            true => ValidationResult::Incomplete,
            false => ValidationResult::Valid(None),
        })
    }
}

impl Hinter for Names {
    type Hint = String;
}

impl Highlighter for Names {}

impl Helper for Names {}
