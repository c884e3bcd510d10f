//! The process around the host program: its arguments, its streams, its signals, its exit code.

use std::fs::File;
use std::io::{self, IsTerminal};
use std::process::ExitCode;

use packer_core::event::ForTerminal;
use packer_host::{Input, Process, run};
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
            input: input(),
            stdout: harmless(io::stdout()),
            stderr: harmless(io::stderr()),
            terminal: io::stdout().is_terminal() && io::stderr().is_terminal(),
            signals: signals(),
        })
        .await
    });
    // Whatever still waits for an answer at the terminal is not waited for.
    runtime.shutdown_background();
    ExitCode::from(code)
}

/// A stream as it is, unless it is a terminal: machines and servers give that no orders.
fn harmless(stream: impl io::Write + IsTerminal + Send + 'static) -> Box<dyn io::Write + Send> {
    match stream.is_terminal() {
        true => Box::new(ForTerminal::new(stream)),
        false => Box::new(stream),
    }
}

/// What the standard input is.
fn input() -> Input {
    let stdin = io::stdin();
    if stdin.is_terminal() {
        return Input::Terminal;
    }
    #[cfg(unix)]
    let handle = std::os::fd::AsFd::as_fd(&stdin).try_clone_to_owned();
    #[cfg(windows)]
    let handle = std::os::windows::io::AsHandle::as_handle(&stdin).try_clone_to_owned();
    let is_file = handle.and_then(|h| File::from(h).metadata()).is_ok_and(|m| m.is_file());
    if is_file { Input::File } else { Input::Pipe }
}

/// Interrupts and requests to end, as they come.
#[cfg(unix)]
fn signals() -> mpsc::UnboundedReceiver<&'static str> {
    use tokio::signal::unix::{SignalKind, signal};
    let (sender, receiver) = mpsc::unbounded_channel();
    let ignored = ignored();
    let kinds = [
        (SignalKind::interrupt(), "interrupt", true),
        (SignalKind::terminate(), "terminated", true),
        // The terminal is gone, or the connection to it. Who started this with `nohup` wants it to go on.
        (SignalKind::hangup(), "hangup", false),
        (SignalKind::quit(), "quit", false),
    ];
    for (kind, name, always) in kinds {
        let number = kind.as_raw_value();
        // Where it cannot be told what is ignored, nothing is changed.
        if !always && ignored.is_none_or(|ignored| ignored >> (number - 1) & 1 == 1) {
            continue;
        }
        // A process that cannot be told of a signal is ended by it.
        let Ok(mut stream) = signal(kind) else { continue };
        let sender = sender.clone();
        tokio::spawn(async move { while stream.recv().await.is_some() && sender.send(name).is_ok() {} });
    }
    receiver
}

/// The signals that this process was started to ignore, a bit each; `None` where the system does not say.
#[cfg(unix)]
fn ignored() -> Option<u64> {
    let status = std::fs::read_to_string("/proc/self/status").ok()?;
    let mask = status.lines().find_map(|line| line.strip_prefix("SigIgn:"))?;
    u64::from_str_radix(mask.trim(), 16).ok()
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
