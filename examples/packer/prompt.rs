//! Questions at the terminal.

use std::fs::{File, OpenOptions};
use std::io::{self, BufRead, BufReader, IsTerminal, Write};

use packer_core::{Error, Prompt, Result, async_trait};
use tokio::sync::{Mutex, oneshot};

use crate::ui::{Format, Out};

/// Asks at the terminal the program was started from, one question at a time.
pub(crate) struct Terminal {
    out: Out,
    format: Format,
    one_at_a_time: Mutex<()>,
}

impl Terminal {
    pub(crate) fn new(out: Out, format: Format) -> Self {
        Self { out, format, one_at_a_time: Mutex::new(()) }
    }
}

#[async_trait]
impl Prompt for Terminal {
    async fn ask(&self, question: &str) -> Result<String> {
        match self.format {
            Format::Human => {}
            Format::Machine => return Err(Error::user("machine-readable UI can't ask")),
            Format::Json => return Err(Error::user("with -json nobody can be asked")),
        }
        let mut input = terminal()?;
        let _turn = self.one_at_a_time.lock().await;
        // A question that cannot be shown is still answered by Enter.
        let _ = self.out.clone().write_all(question.as_bytes());
        let (sender, answer) = oneshot::channel();
        // Not a task of the runtime: reading cannot be called off, and nobody must wait for it when the run is over.
        std::thread::spawn(move || {
            let mut line = String::new();
            let read = input.read_line(&mut line);
            let _ = sender.send(read.map(|_| line));
        });
        let line = answer.await.map_err(|_| Error::internal("the terminal was not read"))?;
        let line = line.map_err(|e| Error::user(format!("reading the terminal: {e}")))?;
        Ok(line.trim_end_matches(['\n', '\r']).to_owned())
    }
}

/// The terminal to read answers from: that of the process, whatever its standard input is.
fn terminal() -> Result<Box<dyn BufRead + Send>> {
    let open = |path: &str| OpenOptions::new().read(true).write(true).open(path);
    let tty: io::Result<File> = if cfg!(windows) { open("CONIN$") } else { open("/dev/tty") };
    match tty {
        Ok(file) => Ok(Box::new(BufReader::new(file))),
        Err(_) if io::stdin().is_terminal() => Ok(Box::new(BufReader::new(io::stdin()))),
        Err(_) => Err(Error::user("no available tty")),
    }
}
