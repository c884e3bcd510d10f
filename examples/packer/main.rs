//! The process around the host program: its arguments, its streams, its signals, its exit code.

use std::io::{self, IsTerminal};
use std::process::ExitCode;

use packer_host::{Process, run};
use tokio::sync::mpsc;

fn main() -> ExitCode {
    let runtime = match tokio::runtime::Builder::new_multi_thread().enable_all().build() {
        Ok(runtime) => runtime,
        Err(error) => {
            let _ = io::Write::write_all(&mut io::stderr(), format!("packer: {error}\n").as_bytes());
            return ExitCode::FAILURE;
        }
    };
    let code = runtime.block_on(async {
        run(Process {
            // What is no Unicode cannot be said in a template either.
            args: std::env::args_os().skip(1).map(|a| a.to_string_lossy().into_owned()).collect(),
            env: std::env::vars_os()
                .filter_map(|(k, v)| Some((k.into_string().ok()?, v.into_string().ok()?)))
                .collect(),
            stdin: Box::new(io::stdin()),
            stdout: Box::new(io::stdout()),
            stderr: Box::new(io::stderr()),
            terminal: io::stdout().is_terminal() && io::stderr().is_terminal(),
            signals: signals(),
        })
        .await
    });
    // Whatever still waits for an answer at the terminal is not waited for.
    runtime.shutdown_background();
    ExitCode::from(code)
}

/// Interrupts and requests to end, as they come.
#[cfg(unix)]
fn signals() -> mpsc::UnboundedReceiver<&'static str> {
    use tokio::signal::unix::{SignalKind, signal};
    let (sender, receiver) = mpsc::unbounded_channel();
    for (kind, name) in [(SignalKind::interrupt(), "interrupt"), (SignalKind::terminate(), "terminated")] {
        // A process that cannot be told of a signal is ended by it.
        let Ok(mut stream) = signal(kind) else { continue };
        let sender = sender.clone();
        tokio::spawn(async move { while stream.recv().await.is_some() && sender.send(name).is_ok() {} });
    }
    receiver
}

/// Interrupts, as they come.
#[cfg(not(unix))]
fn signals() -> mpsc::UnboundedReceiver<&'static str> {
    let (sender, receiver) = mpsc::unbounded_channel();
    tokio::spawn(async move {
        while tokio::signal::ctrl_c().await.is_ok() && sender.send("interrupt").is_ok() {}
    });
    receiver
}
