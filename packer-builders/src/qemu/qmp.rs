//! QEMU's machine protocol: commands and their answers as lines of JSON over a socket.
//!
//! Source: `docs/interop/qmp-spec` of QEMU.

use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use packer_core::{Context, Error, Result};
use serde_json::{Value, json};
#[cfg(not(unix))]
use tokio::io::DuplexStream as Stream;
use tokio::io::{AsyncBufReadExt, AsyncReadExt, AsyncWriteExt, BufReader, ReadHalf, WriteHalf};
#[cfg(unix)]
use tokio::net::UnixStream as Stream;
use tokio::sync::{Mutex, broadcast, mpsc};
use tokio_util::task::AbortOnDropHandle;

/// The longest message of QEMU.
const LONGEST: u64 = 16 << 20;
/// How long an answer may take.
const LIMIT: Duration = Duration::from_secs(60);
/// How many events may wait for whoever listens.
const EVENTS: usize = 256;
/// How long the socket may take to appear.
const APPEARS: Duration = Duration::from_secs(20);

/// A connection to a machine.
#[derive(Debug, Clone)]
pub(super) struct Qmp(Arc<Inner>);

#[derive(Debug)]
struct Inner {
    /// One command at a time; its answer comes through the channel.
    talk: Mutex<Talk>,
    events: broadcast::Sender<Value>,
    _reader: AbortOnDropHandle<()>,
}

#[derive(Debug)]
struct Talk {
    writer: WriteHalf<Stream>,
    answers: mpsc::Receiver<Value>,
    /// Names commands, so that the late answer of one that was given up is known.
    next: u64,
}

impl Qmp {
    /// Connects to the socket, which QEMU makes when it starts.
    pub(super) async fn connect(cx: &Context, socket: &Path) -> Result<Self> {
        let failed = |e: std::io::Error| Error::io("connect", socket, e);
        let deadline = tokio::time::Instant::now() + APPEARS;
        let stream = loop {
            match open(socket).await {
                Ok(stream) => break stream,
                Err(e) if tokio::time::Instant::now() >= deadline => return Err(failed(e)),
                Err(_) => cx.sleep(Duration::from_millis(10)).await?,
            }
        };
        let (reader, writer) = tokio::io::split(stream);
        let (sender, mut answers) = mpsc::channel(4);
        let events = broadcast::Sender::new(EVENTS);
        let reader = read(BufReader::new(reader), sender, events.clone());
        let reader = AbortOnDropHandle::new(tokio::spawn(reader));
        let greeting = tokio::time::timeout(LIMIT, answers.recv()).await.ok().flatten();
        if greeting.is_none_or(|greeting| greeting.get("QMP").is_none()) {
            return Err(Error::provider(format!("{}: this is no QEMU", socket.display())));
        }
        let talk = Mutex::new(Talk { writer, answers, next: 0 });
        let qmp = Self(Arc::new(Inner { talk, events, _reader: reader }));
        qmp.ask("qmp_capabilities", Value::Null).await?;
        Ok(qmp)
    }

    /// Runs a command; `arguments` is an object or null.
    pub(super) async fn ask(&self, command: &str, arguments: Value) -> Result<Value> {
        let lost = || Error::provider(format!("{command}: QEMU does not answer"));
        let mut talk = self.0.talk.lock().await;
        let id = talk.next;
        talk.next += 1;
        let mut message = json!({ "execute": command, "id": id });
        if !arguments.is_null() {
            message["arguments"] = arguments;
        }
        let line = format!("{message}\n");
        let talking = async {
            talk.writer.write_all(line.as_bytes()).await.map_err(|e| lost().with_source(e))?;
            loop {
                let answer = talk.answers.recv().await.ok_or_else(lost)?;
                if answer.get("id").is_none_or(|own| *own != json!(id)) {
                    continue;
                }
                if let Some(error) = answer.get("error") {
                    let why = error.get("desc").and_then(Value::as_str).unwrap_or("it failed");
                    return Err(Error::provider(format!("{command}: {why}")));
                }
                return Ok(answer.get("return").cloned().unwrap_or_default());
            }
        };
        tokio::time::timeout(LIMIT, talking).await.unwrap_or_else(|_| Err(lost()))
    }

    /// Lets a machine go on that stands still.
    pub(super) async fn go_on(&self) -> Result<()> {
        /// How long it may take QEMU to see that the memory is saved, after it has said so.
        const SETTLES: Duration = Duration::from_secs(10);
        const PAUSE: Duration = Duration::from_millis(2);
        let deadline = tokio::time::Instant::now() + SETTLES;
        loop {
            match self.ask("cont", Value::Null).await {
                Err(e) if e.message().contains("not finalized") && tokio::time::Instant::now() < deadline => {
                    tokio::time::sleep(PAUSE).await;
                }
                done => return done.map(drop),
            }
        }
    }

    /// Runs a command that begins to save or to load the machine's memory; returns when that is done.
    pub(super) async fn migrate(&self, command: &str, uri: &str) -> Result<()> {
        let lost = || Error::provider(format!("{command}: QEMU does not say what has become of it"));
        let on = json!({ "capabilities": [{ "capability": "events", "state": true }] });
        self.ask("migrate-set-capabilities", on).await?;
        // As fast as it goes: nobody else uses what it goes through.
        self.ask("migrate-set-parameters", json!({ "max-bandwidth": 1u64 << 40 })).await?;
        let mut events = self.0.events.subscribe();
        self.ask(command, json!({ "uri": uri })).await?;
        loop {
            let event = match events.recv().await {
                Ok(event) => event,
                Err(broadcast::error::RecvError::Lagged(_)) => continue,
                Err(broadcast::error::RecvError::Closed) => return Err(lost()),
            };
            if event.get("event").and_then(Value::as_str) != Some("MIGRATION") {
                continue;
            }
            match event.pointer("/data/status").and_then(Value::as_str) {
                Some("completed") => return Ok(()),
                Some(status @ ("failed" | "cancelled")) => {
                    let said = self.ask("query-migrate", Value::Null).await.unwrap_or_default();
                    let why = said.get("error-desc").and_then(Value::as_str).unwrap_or(status);
                    return Err(Error::provider(format!("{command}: {why}")));
                }
                _ => {}
            }
        }
    }
}

#[cfg(unix)]
async fn open(socket: &Path) -> std::io::Result<Stream> {
    Stream::connect(socket).await
}

#[cfg(not(unix))]
async fn open(_: &Path) -> std::io::Result<Stream> {
    Err(std::io::Error::new(
        std::io::ErrorKind::Unsupported,
        "QEMU's machine protocol is spoken on Unix only",
    ))
}

/// Reads messages until QEMU is gone: answers for whoever asked, events for whoever listens.
async fn read(
    mut stream: BufReader<ReadHalf<Stream>>,
    answers: mpsc::Sender<Value>,
    events: broadcast::Sender<Value>,
) {
    let mut line = Vec::new();
    loop {
        line.clear();
        match (&mut stream).take(LONGEST).read_until(b'\n', &mut line).await {
            Ok(length) if length > 0 && line.ends_with(b"\n") => {}
            _ => return,
        }
        let Ok(message) = serde_json::from_slice::<Value>(&line) else { continue };
        if message.get("event").is_some() {
            // It fails where nobody listens.
            let _ = events.send(message);
        } else if answers.send(message).await.is_err() {
            return;
        }
    }
}
