//! A WinRM server on a port of this computer, in front of something that stands in for Windows.
//!
//! No program that runs here is a WinRM server: this one speaks the protocol (shells, commands, their streams, faults) over
//! HTTP with a Basic login. What a command does a closure says; files are a table.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use tokio::io::{AsyncBufReadExt, AsyncReadExt, AsyncWriteExt, BufReader};
use tokio::net::{TcpListener, TcpStream};

use crate::communicator::CommunicatorConfig;

/// Who may log in.
pub const USER: &str = "Administrator";
/// With which password.
pub const PASSWORD: &str = "G3heim!wort";

/// How long a question for output is held open where there is none: shorter than real servers do, so that tests see it.
const HELD: Duration = Duration::from_millis(200);

/// How much is printed in one answer.
const MOST_PRINTED: usize = 32 * 1024;

/// What a command does.
#[derive(Debug, Clone, Default)]
pub struct Reply {
    /// What it prints.
    pub stdout: Vec<u8>,
    /// What it prints as errors.
    pub stderr: Vec<u8>,
    /// How it ends; `None`: not by itself.
    pub code: Option<i32>,
    /// The connection is closed where its output is asked for.
    pub hangs_up: bool,
}

impl Reply {
    /// Ends with a code, without a word.
    pub fn code(code: i32) -> Self {
        Self { code: Some(code), ..Self::default() }
    }

    /// Prints something and ends well.
    pub fn prints(text: impl Into<Vec<u8>>) -> Self {
        Self { stdout: text.into(), ..Self::code(0) }
    }

    /// Prints an error and ends with a code.
    pub fn fails(text: impl Into<Vec<u8>>, code: i32) -> Self {
        Self { stderr: text.into(), ..Self::code(code) }
    }

    /// Runs until it is ended.
    pub fn forever() -> Self {
        Self::default()
    }

    /// The connection breaks while it runs.
    pub fn hangs_up() -> Self {
        Self { hangs_up: true, ..Self::default() }
    }
}

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
    behavior: Box<Behavior>,
    files: Mutex<BTreeMap<String, Vec<u8>>>,
    log: Mutex<Vec<String>>,
    jobs: Mutex<BTreeMap<String, Job>>,
    shells: Mutex<BTreeSet<String>>,
    temporary: Mutex<BTreeMap<String, String>>,
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

    /// The same on a port that listens already.
    ///
    /// # Panics
    /// Where it has no address.
    pub fn on(
        listener: TcpListener,
        behavior: impl Fn(&str, &[u8]) -> Reply + Send + Sync + 'static,
    ) -> Self {
        let port = listener.local_addr().expect("an address").port();
        let state = Arc::new(State {
            manner: Mutex::default(),
            behavior: Box::new(behavior),
            files: Mutex::default(),
            log: Mutex::default(),
            jobs: Mutex::default(),
            shells: Mutex::default(),
            temporary: Mutex::default(),
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
        lock(&self.state.log).clone()
    }

    /// The files, by their paths in small letters with `/`.
    pub fn files(&self) -> BTreeMap<String, Vec<u8>> {
        lock(&self.state.files).clone()
    }

    /// Puts a file into the machine.
    pub fn put(&self, path: &str, content: impl Into<Vec<u8>>) {
        lock(&self.state.files).insert(key(path), content.into());
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

    /// Runs a command line.
    fn run(&self, text: &str, stdin: &[u8]) -> Reply {
        if let Some((data, name)) =
            text.strip_prefix("echo ").and_then(|rest| rest.split_once(" >> \"%TEMP%\\"))
        {
            let name = name.trim_end_matches('"').to_owned();
            lock(&self.temporary).entry(name).or_default().push_str(data);
            return Reply::code(0);
        }
        let Some((_, encoded)) = text.split_once("-EncodedCommand ") else { return self.asked(text, stdin) };
        let bytes = STANDARD.decode(encoded.trim()).unwrap_or_default();
        let units: Vec<u16> =
            bytes.chunks_exact(2).map(|pair| u16::from_le_bytes([pair[0], pair[1]])).collect();
        let script = String::from_utf16_lossy(&units);
        let said = |name: &str| between(&script, name, "\n").map(|path| key(&path));
        let full_path = |n: usize| {
            let found = script.split("GetFullPath(\"").nth(n + 1)?.split("\")").next()?;
            Some(found.to_owned())
        };
        let folder = |path: &str| lock(&self.files).contains_key(&format!("{}/", path.trim_end_matches('/')));
        let into_folder = || Reply::fails("the destination is a folder\r\n", 1);
        if let Some(path) = said("# conform-upload-base64 ") {
            if folder(&path) {
                return into_folder();
            }
            let text: Vec<u8> = stdin.iter().copied().filter(|byte| !byte.is_ascii_whitespace()).collect();
            let Ok(content) = STANDARD.decode(text) else { return Reply::fails("no base64\r\n", 1) };
            let receipt = receipt(&content);
            lock(&self.files).insert(path, content);
            return Reply::prints(receipt);
        }
        if let Some(path) = said("# conform-download ") {
            return match lock(&self.files).get(&path) {
                Some(content) => Reply::prints(
                    content
                        .chunks(49_152)
                        .map(|part| format!("{}\r\n", STANDARD.encode(part)))
                        .collect::<String>(),
                ),
                None => Reply::fails("Could not find the file.\r\n", 1),
            };
        }
        if script.contains("$file = $null; $count = 0") {
            return self.many(&full_path(0).unwrap_or_default(), stdin);
        }
        if script.contains("$dest_file_path") {
            let name = full_path(0).unwrap_or_default().replace("$env:TEMP\\", "");
            let path = key(&full_path(1).unwrap_or_default());
            let content = lock(&self.temporary).remove(&name).unwrap_or_default();
            if folder(&path) {
                return into_folder();
            }
            lock(&self.files).insert(path, STANDARD.decode(content).unwrap_or_default());
            return Reply::code(0);
        }
        if script.contains("Remove-Item $tmp_file_path") {
            for path in (0..).map_while(full_path) {
                lock(&self.temporary).remove(&path.replace("$env:TEMP\\", ""));
                lock(&self.files).remove(&key(&path));
            }
            return Reply::code(0);
        }
        if script.contains("WinRM connected.") {
            return Reply::prints("WinRM connected.\r\n");
        }
        let script = script.strip_prefix("$ProgressPreference = 'SilentlyContinue';").unwrap_or(&script);
        self.asked(script, stdin)
    }

    fn asked(&self, text: &str, stdin: &[u8]) -> Reply {
        lock(&self.log).push(text.to_owned());
        if let Some((_, path)) = text.split_once(" -file ") {
            self.removals(path.trim_matches('"'));
        }
        (self.behavior)(text, stdin)
    }

    /// Does what a script says that removes files, line by line.
    fn removals(&self, path: &str) {
        let mut files = lock(&self.files);
        let script = files.get(&key(path)).map(|script| String::from_utf8_lossy(script).into_owned());
        for line in script.unwrap_or_default().lines() {
            if let Some(path) = line.strip_prefix("if (Test-Path ").and_then(|rest| rest.split_once(") {")) {
                files.remove(&key(path.0));
            }
        }
    }

    /// Files in a row, as lines.
    fn many(&self, folder: &str, stdin: &[u8]) -> Reply {
        let mut count = 0;
        let mut name = String::new();
        for line in String::from_utf8_lossy(stdin).lines() {
            let decoded = STANDARD.decode(line.trim_start_matches('>')).unwrap_or_default();
            if line.starts_with('>') {
                name = key(&format!("{folder}/{}", String::from_utf8_lossy(&decoded)));
                lock(&self.files).insert(name.clone(), Vec::new());
                count += 1;
            } else {
                lock(&self.files).entry(name.clone()).or_default().extend(decoded);
            }
        }
        Reply::prints(format!("packer-received {count}\r\n"))
    }

    fn name(&self) -> String {
        format!("0000-{}", self.next.fetch_add(1, Ordering::Relaxed))
    }
}

fn receipt(content: &[u8]) -> String {
    use sha2::Digest;
    let digest: String = sha2::Sha256::digest(content).iter().map(|byte| format!("{byte:02x}")).collect();
    format!("packer-received {} {digest}\r\n", content.len())
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

fn between(text: &str, before: &str, behind: &str) -> Option<String> {
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

fn key(path: &str) -> String {
    let mut path = path.replace('\\', "/").to_lowercase();
    while path.contains("//") {
        path = path.replace("//", "/");
    }
    path
}

fn lock<T>(mutex: &Mutex<T>) -> std::sync::MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
