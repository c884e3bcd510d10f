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
        self.can_show()?;
        let mut input = terminal()?;
        self.read(question, move || {
            let mut line = String::new();
            input.read_line(&mut line).map(|_| line)
        })
        .await
    }

    async fn ask_secret(&self, question: &str) -> Result<String> {
        self.can_show()?;
        let _shown_again = TerminalAsItWas::now();
        self.read(question, rpassword::read_password).await
    }

    fn can_ask(&self) -> bool {
        self.can_show().and_then(|()| terminal()).is_ok()
    }
}

impl Terminal {
    /// Whether a question can be shown in the middle of what else is written.
    fn can_show(&self) -> Result<()> {
        match self.format {
            Format::Human => Ok(()),
            Format::Machine => Err(Error::user("machine-readable UI can't ask")),
            Format::Json => Err(Error::user("with -json nobody can be asked")),
        }
    }

    async fn read(
        &self,
        question: &str,
        read: impl FnOnce() -> io::Result<String> + Send + 'static,
    ) -> Result<String> {
        let _turn = self.one_at_a_time.lock().await;
        // A question that cannot be shown is still answered by Enter.
        let _ = self.out.clone().write_all(question.as_bytes());
        let (sender, answer) = oneshot::channel();
        // Not a task of the runtime: reading cannot be called off, and nobody must wait for it when the run is over.
        std::thread::spawn(move || {
            let _ = sender.send(read());
        });
        let line = answer.await.map_err(|_| Error::internal("the terminal was not read"))?;
        let line = line.map_err(|e| Error::user(format!("reading the terminal: {e}")))?;
        Ok(line.trim_end_matches(['\n', '\r']).to_owned())
    }
}

/// Sets the terminal back as it was, also when a question is called off while nothing typed is shown.
#[cfg(unix)]
struct TerminalAsItWas(Option<(File, rustix::termios::Termios)>);

#[cfg(unix)]
impl TerminalAsItWas {
    fn now() -> Self {
        let tty = File::open("/dev/tty").ok();
        Self(tty.and_then(|tty| rustix::termios::tcgetattr(&tty).ok().map(|modes| (tty, modes))))
    }
}

#[cfg(unix)]
impl Drop for TerminalAsItWas {
    fn drop(&mut self) {
        if let Some((tty, modes)) = &self.0 {
            let _ = rustix::termios::tcsetattr(tty, rustix::termios::OptionalActions::Now, modes);
        }
    }
}

/// A question that is called off on Windows leaves its own console mode behind only until the reading ends.
#[cfg(not(unix))]
struct TerminalAsItWas;

#[cfg(not(unix))]
impl TerminalAsItWas {
    fn now() -> Self {
        Self
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
