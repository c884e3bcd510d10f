//! A WinRM server on a port of this computer, in front of something that stands in for Windows.
//!
//! No program that runs here is a WinRM server: this one speaks the protocol (shells, commands, their streams, faults) over
//! HTTP with a Basic login.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use tokio::io::{AsyncBufReadExt, AsyncReadExt, AsyncWriteExt, BufReader};
use tokio::net::{TcpListener, TcpStream};

pub use super::windows::Reply;
use super::windows::{Windows, key};
use crate::communicator::CommunicatorConfig;

/// Who may log in.
pub const USER: &str = "Administrator";
/// With which password.
pub const PASSWORD: &str = "G3heim!wort";

/// How long a question for output is held open where there is none: shorter than real servers do, so that tests see it.
const HELD: Duration = Duration::from_millis(200);

/// How much is printed in one answer.
const MOST_PRINTED: usize = 32 * 1024;

/// How the server behaves instead of serving.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
#[non_exhaustive]
pub enum Manner {
    /// It serves.
    #[default]
    Serves,
    /// Each request is answered with this text, byte for byte, and the connection closed.
    Says(&'static str),
    /// It takes connections and says nothing.
    Silent,
    /// It closes each connection at once.
    HangsUp,
    /// It closes the connection in the middle of each answer.
    Half,
    /// It begins to answer and goes on with that for ever.
    Trickles,
    /// Each answer is one to another request.
    Mixes,
    /// It says at once that a command has printed nothing new; no command ends.
    NothingNew,
}

type Behavior = dyn Fn(&str, &[u8]) -> Reply + Send + Sync;

/// A server, until it is dropped.
pub struct WinRmServer {
    state: Arc<State>,
    port: u16,
    task: tokio::task::JoinHandle<()>,
}

struct State {
    manner: Mutex<Manner>,
    /// What commands do; `None`: what `cmd` does.
    behavior: Option<Box<Behavior>>,
    windows: Mutex<Windows>,
    jobs: Mutex<BTreeMap<String, Job>>,
    shells: Mutex<BTreeSet<String>>,
    requests: AtomicUsize,
    next: AtomicUsize,
}

#[derive(Default)]
struct Job {
    shell: String,
    text: String,
    stdin: Vec<u8>,
    /// What it does, once it has read its input to the end.
    reply: Option<Reply>,
    /// How much of its output and error output was taken.
    taken: (usize, usize),
}

impl WinRmServer {
    /// Starts a server whose commands do what the closure says: it gets the command line, or the script of an encoded one,
    /// and what stands on its input. Files and the question whether PowerShell answers it does not get.
    ///
    /// # Panics
    /// Where there is no free port.
    pub async fn start(behavior: impl Fn(&str, &[u8]) -> Reply + Send + Sync + 'static) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a free port");
        Self::on(listener, behavior)
    }

    /// Starts a server whose commands run in a small part of `cmd`: as much as
    /// [`windows_suite`](super::communicator::windows_suite) asks.
    ///
    /// # Panics
    /// Where there is no free port.
    pub async fn with_cmd() -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a free port");
        Self::serve(listener, None)
    }

    /// The same as [`start`](Self::start) on a port that listens already.
    ///
    /// # Panics
    /// Where it has no address.
    pub fn on(
        listener: TcpListener,
        behavior: impl Fn(&str, &[u8]) -> Reply + Send + Sync + 'static,
    ) -> Self {
        Self::serve(listener, Some(Box::new(behavior)))
    }

    fn serve(listener: TcpListener, behavior: Option<Box<Behavior>>) -> Self {
        let port = listener.local_addr().expect("an address").port();
        let state = Arc::new(State {
            manner: Mutex::default(),
            behavior,
            windows: Mutex::default(),
            jobs: Mutex::default(),
            shells: Mutex::default(),
            requests: AtomicUsize::new(0),
            next: AtomicUsize::new(0),
        });
        let served = state.clone();
        let task = tokio::spawn(async move {
            let mut connections = tokio::task::JoinSet::new();
            while let Ok((stream, _)) = listener.accept().await {
                let state = served.clone();
                connections.spawn(async move {
                    // A client that goes away is none of our business.
                    let _ = state.serve(stream).await;
                });
            }
        });
        Self { state, port, task }
    }

    /// The options that lead to it.
    pub fn config(&self) -> CommunicatorConfig {
        let mut config = CommunicatorConfig::winrm(USER, PASSWORD).host("127.0.0.1").port(self.port);
        config.winrm_timeout = crate::duration::GoDuration::from_secs(30);
        config
    }

    /// From now on it behaves in this way.
    pub fn behaves(&self, manner: Manner) {
        *lock(&self.state.manner) = manner;
    }

    /// The commands and scripts that ran, without those that move files.
    pub fn log(&self) -> Vec<String> {
        lock(&self.state.windows).log.clone()
    }

    /// The files, by their paths in small letters with `/`, and the folders that were made, with one at their end.
    pub fn files(&self) -> BTreeMap<String, Vec<u8>> {
        lock(&self.state.windows).files.clone()
    }

    /// Puts a file into the machine.
    pub fn put(&self, path: &str, content: impl Into<Vec<u8>>) {
        lock(&self.state.windows).files.insert(key(path), content.into());
    }

    /// How many shells there are.
    pub fn shells(&self) -> usize {
        lock(&self.state.shells).len()
    }

    /// How many commands have not ended and were not ended.
    pub fn running(&self) -> usize {
        lock(&self.state.jobs).len()
    }

    /// How many requests came.
    pub fn requests(&self) -> usize {
        self.state.requests.load(Ordering::Relaxed)
    }
}

impl Drop for WinRmServer {
    fn drop(&mut self) {
        self.task.abort();
    }
}

impl fmt::Debug for WinRmServer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "WinRmServer(127.0.0.1:{})", self.port)
    }
}

/// What a request is answered with.
enum Answer {
    Body(String),
    Fault(&'static str, u32),
    HangUp,
}

impl State {
    async fn serve(&self, stream: TcpStream) -> std::io::Result<()> {
        stream.set_nodelay(true)?;
        let mut stream = BufReader::new(stream);
        loop {
            let manner = *lock(&self.manner);
            match manner {
                Manner::HangsUp => return Ok(()),
                Manner::Silent => std::future::pending().await,
                _ => {}
            }
            let Some((head, body)) = read_request(&mut stream).await? else { return Ok(()) };
            self.requests.fetch_add(1, Ordering::Relaxed);
            if let Manner::Says(text) = manner {
                return stream.write_all(text.as_bytes()).await;
            }
            if manner == Manner::Trickles {
                let head = "HTTP/1.1 200 OK\r\nContent-Type: application/soap+xml\r\nTransfer-Encoding: chunked\r\n\r\n";
                stream.write_all(head.as_bytes()).await?;
                loop {
                    stream.write_all(b"1\r\n \r\n").await?;
                    tokio::time::sleep(Duration::from_millis(5)).await;
                }
            }
            let login = format!("authorization: basic {}", STANDARD.encode(format!("{USER}:{PASSWORD}")));
            let answer = match head.iter().any(|line| line.eq_ignore_ascii_case(&login)) {
                true => {
                    let xml = String::from_utf8_lossy(&body);
                    let to = match manner {
                        Manner::Mixes => Some(format!("uuid:{}", uuid::Uuid::new_v4())),
                        _ => between(&xml, "<a:MessageID>", "<"),
                    };
                    let to = to.unwrap_or_default();
                    match self.answer(&xml, manner).await {
                        Answer::Body(body) => response("200 OK", "", &envelope(&to, &body)),
                        Answer::Fault(text, code) => {
                            response("500 Internal Server Error", "", &envelope(&to, &fault(text, code)))
                        }
                        Answer::HangUp => return Ok(()),
                    }
                }
                false => response("401 Unauthorized", "WWW-Authenticate: Basic realm=\"WSMAN\"\r\n", ""),
            };
            if manner == Manner::Half {
                return stream.write_all(&answer.as_bytes()[..answer.len() - 40]).await;
            }
            stream.write_all(answer.as_bytes()).await?;
        }
    }

    async fn answer(&self, xml: &str, manner: Manner) -> Answer {
        let action = between(xml, "<a:Action s:mustUnderstand=\"true\">", "<").unwrap_or_default();
        let action = action.rsplit('/').next().unwrap_or_default().to_owned();
        let shell = between(xml, "Name=\"ShellId\">", "<").unwrap_or_default();
        let job = between(xml, "CommandId=\"", "\"").unwrap_or_default();
        if action == "Create" {
            let id = self.name();
            lock(&self.shells).insert(id.clone());
            return Answer::Body(format!("<rsp:Shell><rsp:ShellId>{id}</rsp:ShellId></rsp:Shell>"));
        }
        if !lock(&self.shells).contains(&shell) {
            return Answer::Fault("The shell was not found.", 0x8033_805B);
        }
        match action.as_str() {
            "Command" => {
                let text = unescape(&between(xml, "<rsp:Command>", "</rsp:Command>").unwrap_or_default());
                let id = self.name();
                lock(&self.jobs).insert(id.clone(), Job { shell, text, ..Job::default() });
                Answer::Body(format!(
                    "<rsp:CommandResponse><rsp:CommandId>{id}</rsp:CommandId></rsp:CommandResponse>"
                ))
            }
            "Send" => self.send(&job, xml),
            "Receive" if manner == Manner::NothingNew => Answer::Body("<rsp:ReceiveResponse/>".into()),
            "Receive" => self.receive(&job).await,
            "Signal" => {
                lock(&self.jobs).remove(&job);
                Answer::Body("<rsp:SignalResponse/>".into())
            }
            "Delete" => {
                lock(&self.shells).remove(&shell);
                lock(&self.jobs).retain(|_, job| job.shell != shell);
                Answer::Body(String::new())
            }
            _ => Answer::Fault("The action is not supported.", 0x8033_8009),
        }
    }

    fn send(&self, id: &str, xml: &str) -> Answer {
        let text = between(xml, "<rsp:Stream ", "</rsp:Stream>").unwrap_or_default();
        let (attributes, text) = text.split_once('>').unwrap_or_default();
        let whole = {
            let mut jobs = lock(&self.jobs);
            let Some(job) = jobs.get_mut(id) else {
                return Answer::Fault("The command has ended.", 0x8007_006D);
            };
            if job.reply.as_ref().is_some_and(|reply| reply.code.is_some()) {
                return Answer::Fault("The pipe has been ended.", 0x8007_006D);
            }
            job.stdin.extend(STANDARD.decode(text).unwrap_or_default());
            attributes.contains("End=\"true\"").then(|| (job.text.clone(), std::mem::take(&mut job.stdin)))
        };
        if let Some((text, stdin)) = whole {
            let reply = self.run(&text, &stdin);
            if let Some(job) = lock(&self.jobs).get_mut(id) {
                job.reply = Some(reply);
            }
        }
        Answer::Body("<rsp:SendResponse/>".into())
    }

    async fn receive(&self, id: &str) -> Answer {
        let end = tokio::time::Instant::now() + HELD;
        loop {
            {
                let mut jobs = lock(&self.jobs);
                let Some(job) = jobs.get_mut(id) else {
                    return Answer::Fault("The command was not found.", 0x8033_805B);
                };
                let Job { reply, taken, .. } = job;
                // What waits for a file has not begun.
                let reply = reply.as_mut().filter(|reply| match &reply.until {
                    Some(path) => lock(&self.windows).files.contains_key(path),
                    None => true,
                });
                if let Some(reply) = reply {
                    if reply.hangs_up {
                        jobs.remove(id);
                        return Answer::HangUp;
                    }
                    let part = |stream: &[u8], taken: &mut usize, name: &str| {
                        let bytes = &stream[*taken..stream.len().min(*taken + MOST_PRINTED)];
                        *taken += bytes.len();
                        match bytes.is_empty() {
                            true => String::new(),
                            false => format!(
                                "<rsp:Stream Name=\"{name}\" CommandId=\"{id}\">{}</rsp:Stream>",
                                STANDARD.encode(bytes)
                            ),
                        }
                    };
                    let printed = part(&reply.stdout, &mut taken.0, "stdout")
                        + &part(&reply.stderr, &mut taken.1, "stderr");
                    if reply.repeats {
                        *taken = (0, 0);
                    }
                    let over = *taken == (reply.stdout.len(), reply.stderr.len());
                    if let Some(code) = reply.code.filter(|_| over) {
                        jobs.remove(id);
                        return Answer::Body(format!(
                            "<rsp:ReceiveResponse>{printed}<rsp:CommandState State=\"http://schemas.microsoft.com/wbem/wsman/1/windows/shell/CommandState/Done\"><rsp:ExitCode>{code}</rsp:ExitCode></rsp:CommandState></rsp:ReceiveResponse>",
                            code = code.cast_unsigned()
                        ));
                    }
                    if !printed.is_empty() {
                        return Answer::Body(format!("<rsp:ReceiveResponse>{printed}</rsp:ReceiveResponse>"));
                    }
                }
            }
            if tokio::time::Instant::now() >= end {
                return Answer::Fault("The operation takes longer than OperationTimeout.", 0x8033_8029);
            }
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    }

    fn run(&self, text: &str, stdin: &[u8]) -> Reply {
        let moved = lock(&self.windows).run(text, stdin);
        match (moved, &self.behavior) {
            (Ok(reply), _) => reply,
            (Err(text), Some(behavior)) => behavior(&text, stdin),
            (Err(text), None) => lock(&self.windows).cmd(&text, stdin),
        }
    }

    fn name(&self) -> String {
        format!("0000-{}", self.next.fetch_add(1, Ordering::Relaxed))
    }
}

/// The lines of a request's head, and its body; `None` where the client has gone.
async fn read_request(stream: &mut BufReader<TcpStream>) -> std::io::Result<Option<(Vec<String>, Vec<u8>)>> {
    let mut head = Vec::new();
    loop {
        let mut line = String::new();
        if stream.read_line(&mut line).await? == 0 {
            return Ok(None);
        }
        match line.trim_end() {
            "" => break,
            line => head.push(line.to_owned()),
        }
    }
    let length = head.iter().find_map(|line| {
        let (name, value) = line.split_once(':')?;
        name.eq_ignore_ascii_case("content-length").then(|| value.trim().parse().ok())?
    });
    let mut body = vec![0; length.unwrap_or(0)];
    stream.read_exact(&mut body).await?;
    Ok(Some((head, body)))
}

fn response(status: &str, headers: &str, body: &str) -> String {
    let length = body.len();
    format!(
        "HTTP/1.1 {status}\r\nContent-Type: application/soap+xml;charset=UTF-8\r\n{headers}Content-Length: {length}\r\n\r\n{body}"
    )
}

fn envelope(relates_to: &str, body: &str) -> String {
    format!(
        "<s:Envelope xmlns:s=\"http://www.w3.org/2003/05/soap-envelope\" \
         xmlns:a=\"http://schemas.xmlsoap.org/ws/2004/08/addressing\" \
         xmlns:rsp=\"http://schemas.microsoft.com/wbem/wsman/1/windows/shell\">\
         <s:Header><a:RelatesTo>{relates_to}</a:RelatesTo></s:Header><s:Body>{body}</s:Body></s:Envelope>"
    )
}

fn fault(text: &str, code: u32) -> String {
    format!(
        "<s:Fault><s:Code><s:Value>s:Receiver</s:Value></s:Code><s:Reason><s:Text xml:lang=\"en-US\">{text}</s:Text></s:Reason>\
         <s:Detail><f:WSManFault xmlns:f=\"http://schemas.microsoft.com/wbem/wsman/1/wsmanfault\" Code=\"{code}\"/></s:Detail></s:Fault>"
    )
}

pub(super) fn between(text: &str, before: &str, behind: &str) -> Option<String> {
    let (_, rest) = text.split_once(before)?;
    Some(rest.split(behind).next().unwrap_or_default().to_owned())
}

fn unescape(text: &str) -> String {
    [
        ("&lt;", "<"),
        ("&gt;", ">"),
        ("&quot;", "\""),
        ("&apos;", "'"),
        ("&#13;", "\r"),
        ("&#10;", "\n"),
        ("&amp;", "&"),
    ]
    .iter()
    .fold(text.to_owned(), |text, (name, c)| text.replace(name, c))
}

fn lock<T>(mutex: &Mutex<T>) -> std::sync::MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
