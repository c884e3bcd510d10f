//! The ways to an engine, and how much may come back on them: an engine that sends without end costs bounded memory.

use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::task::{self, Poll};

use bollard::BollardRequest;
use bollard::errors::Error as EngineError;
use hyper::Response;
use hyper::body::Incoming;
use hyper::header::HeaderValue;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::TcpStream;

use super::endpoint::{Endpoint, host_and_port};
use super::http;
use super::ssh::Dialer;
use super::tls::Connector;
use crate::context::Host;
use crate::error::{Error, Result};
use crate::kit::stream::Stream;

/// The port of engines that listen without TLS.
const PORT: u16 = 2375;

/// The longest answer that is taken as a whole, in bytes.
const LONGEST_ANSWER: u64 = 64 << 20;

/// The longest piece of an answer that comes in pieces, in bytes: a line, what a command prints at once.
const LONGEST_PIECE: u64 = 4 << 20;

/// What leads to an engine. Each request has a connection of its own.
pub(super) enum Way {
    /// A program on the engine's machine.
    Ssh(Dialer),
    /// A secured connection.
    Tls(Connector),
    /// A connection without TLS, and the path below which the engine's API is.
    Tcp { host: String, port: u16, base: String },
    /// A socket of this computer.
    #[cfg(unix)]
    Unix(String),
    /// A named pipe of this computer.
    #[cfg(windows)]
    Pipe(String),
}

impl Way {
    /// The way to an engine; nothing is opened yet.
    pub(super) fn to(endpoint: &Endpoint, host: &Host) -> Result<Self> {
        let address = endpoint.address.as_str();
        let (scheme, rest) = address.split_once("://").unwrap_or_default();
        match (scheme, &endpoint.certificates) {
            ("ssh", _) => Ok(Self::Ssh(Dialer::new(address, host)?)),
            ("tcp" | "http" | "https", Some(folder)) => {
                let connector = Connector::new(address, folder);
                let failed = |e: Error| e.context(format!("cannot reach the Docker engine at {endpoint}"));
                Ok(Self::Tls(connector.map_err(failed)?))
            }
            ("tcp" | "http", None) => {
                let (machine, base) = rest.split_once('/').unwrap_or((rest, ""));
                let (host, port) = host_and_port(machine).ok_or_else(|| {
                    Error::user(format!("DOCKER_HOST {address:?} is not tcp://HOST[:PORT]"))
                })?;
                let base = base.trim_end_matches('/');
                let base = if base.is_empty() { String::new() } else { format!("/{base}") };
                Ok(Self::Tcp { host: host.to_owned(), port: port.unwrap_or(PORT), base })
            }
            #[cfg(unix)]
            ("unix", _) => Ok(Self::Unix(rest.to_owned())),
            #[cfg(windows)]
            ("npipe", _) => Ok(Self::Pipe(rest.replace('/', "\\"))),
            _ => Err(Error::user(format!(
                "DOCKER_HOST {address:?}: an engine is reached by unix:// (npipe:// on Windows), tcp:// or ssh://"
            ))),
        }
    }

    /// Sends one request; what comes back is counted.
    pub(super) async fn request(
        self: Arc<Self>,
        request: BollardRequest,
        meter: Meter,
    ) -> std::result::Result<Response<Incoming>, EngineError> {
        let usual = HeaderValue::from_static("docker");
        match &*self {
            Self::Ssh(dialer) => dialer.request(request, meter).await,
            Self::Tls(connector) => connector.request(request, meter).await,
            Self::Tcp { host, port, base } => {
                let stream = TcpStream::connect((host.as_str(), *port)).await?;
                let _ = stream.set_nodelay(true); // without it things are only slower
                let name = HeaderValue::try_from(authority(host, *port)).map_err(io::Error::other)?;
                http::send(Counted { stream: Box::new(stream), meter }, below(base, request)?, name).await
            }
            #[cfg(unix)]
            Self::Unix(path) => {
                let stream = match tokio::net::UnixStream::connect(path).await {
                    Err(e) if e.kind() == io::ErrorKind::NotFound => {
                        return Err(EngineError::SocketNotFoundError(path.clone()));
                    }
                    connected => connected?,
                };
                http::send(Counted { stream: Box::new(stream), meter }, request, usual).await
            }
            #[cfg(windows)]
            Self::Pipe(path) => {
                let stream = open_pipe(path).await?;
                http::send(Counted { stream: Box::new(stream), meter }, request, usual).await
            }
        }
    }
}

/// `HOST:PORT`, an IPv6 address in brackets.
pub(super) fn authority(host: &str, port: u16) -> String {
    if host.contains(':') { format!("[{host}]:{port}") } else { format!("{host}:{port}") }
}

/// The request with its path below another one.
fn below(base: &str, request: BollardRequest) -> std::result::Result<BollardRequest, EngineError> {
    if base.is_empty() {
        return Ok(request);
    }
    let (mut parts, body) = request.into_parts();
    let path = parts.uri.path_and_query().map_or("/", |path| path.as_str());
    parts.uri = format!("{base}{path}").parse()?;
    Ok(BollardRequest::from_parts(parts, body))
}

/// Opens a pipe, of which each request has one; one that all are taken of is waited for.
#[cfg(windows)]
async fn open_pipe(path: &str) -> io::Result<tokio::net::windows::named_pipe::NamedPipeClient> {
    /// `ERROR_PIPE_BUSY`
    const BUSY: i32 = 231;
    loop {
        match tokio::net::windows::named_pipe::ClientOptions::new().open(path) {
            Err(e) if e.raw_os_error() == Some(BUSY) => {
                tokio::time::sleep(std::time::Duration::from_millis(50)).await;
            }
            opened => return opened,
        }
    }
}

/// Counts what an engine sends, and how much of it may come until some of it is taken.
#[derive(Debug, Clone)]
pub(super) struct Meter {
    came: Arc<AtomicU64>,
    most: u64,
}

impl Meter {
    /// For an answer that is taken as a whole.
    pub(super) fn of_an_answer() -> Self {
        Self { came: Arc::default(), most: LONGEST_ANSWER }
    }

    /// For an answer that is taken piece by piece.
    pub(super) fn of_pieces() -> Self {
        Self { came: Arc::default(), most: LONGEST_PIECE }
    }

    /// A piece was taken: the next one may be as long again.
    pub(super) fn taken(&self) {
        self.came.store(0, Ordering::Relaxed);
    }

    /// What is said where too much came; `None` where it did not.
    pub(super) fn excess(&self) -> Option<String> {
        let most = self.most >> 20;
        (self.came.load(Ordering::Relaxed) > self.most)
            .then(|| format!("the engine sends more than {most} MiB at once"))
    }

    fn count(&self, bytes: usize) -> io::Result<()> {
        self.came.fetch_add(bytes as u64, Ordering::Relaxed);
        self.excess().map_or(Ok(()), |why| Err(io::Error::other(why)))
    }
}

/// A stream of which is counted what comes in.
pub(super) struct Counted {
    pub(super) stream: Stream,
    pub(super) meter: Meter,
}

impl AsyncRead for Counted {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut task::Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let before = buffer.filled().len();
        task::ready!(Pin::new(&mut self.stream).poll_read(cx, buffer))?;
        Poll::Ready(self.meter.count(buffer.filled().len() - before))
    }
}

impl AsyncWrite for Counted {
    fn poll_write(
        mut self: Pin<&mut Self>,
        cx: &mut task::Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.stream).poll_write(cx, bytes)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut task::Context<'_>,
        slices: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.stream).poll_write_vectored(cx, slices)
    }

    fn is_write_vectored(&self) -> bool {
        self.stream.is_write_vectored()
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut task::Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut task::Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(cx)
    }
}

#[cfg(test)]
#[cfg(unix)]
mod tests {
    use std::path::Path;

    use tokio::io::{AsyncReadExt, AsyncWriteExt};
    use tokio::net::{UnixListener, UnixStream};
    use tokio::sync::mpsc;

    use super::*;
    use crate::communicator::docker::{DockerCommunicator, Options};
    use crate::communicator::{Command, Communicator};
    use crate::docker::Client;
    use crate::testing::Bench;

    /// What it says before it goes on for ever, by what is asked.
    fn beginning(request: &str) -> (&'static str, &'static [u8]) {
        const JSON: &str = "HTTP/1.1 200 OK\r\ncontent-type: application/json\r\n\r\n";
        if request.starts_with("GET /version ") {
            return (JSON, br#"{"ApiVersion":"1.47","Version":"27"}"#);
        }
        let path = request.split(' ').nth(1).unwrap_or_default();
        match path.split('?').next().unwrap_or_default().trim_start_matches("/v1.47") {
            // A line, a value, a message of an error, a piece of a command's output, each without an end.
            "/images/create" | "/images/x/push" => (JSON, b"{\"status\":\"first\"}\n{\"status\":\""),
            "/images/x/json" => (JSON, b"{\"Id\":\""),
            "/images/y/json" => ("HTTP/1.1 500 Internal Server Error\r\n\r\n", b"it is "),
            "/containers/c/json" => (JSON, br#"{"Id":"c"}"#),
            "/containers/c/exec" => ("HTTP/1.1 201 Created\r\n\r\n", br#"{"Id":"e"}"#),
            "/exec/e/start" => (
                "HTTP/1.1 101 UPGRADED\r\nconnection: Upgrade\r\nupgrade: tcp\r\n\r\n",
                b"\x01\0\0\0\xff\xff\xff\xff",
            ),
            other => panic!("{other}"),
        }
    }

    /// An engine that sends without end, chunk by chunk; how much it got rid of in each of these answers.
    fn engine(socket: &Path) -> mpsc::UnboundedReceiver<usize> {
        let listener = UnixListener::bind(socket).unwrap();
        let (sender, receiver) = mpsc::unbounded_channel();
        tokio::spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                tokio::spawn(serve(stream, sender.clone()));
            }
        });
        receiver
    }

    async fn serve(mut stream: UnixStream, sent: mpsc::UnboundedSender<usize>) {
        let mut request = vec![0; 64 * 1024];
        let length = stream.read(&mut request).await.unwrap();
        let (head, begin) = beginning(&String::from_utf8_lossy(&request[..length]));
        let whole = begin.ends_with(b"}");
        let raw = head.contains(" 101 ");
        let head = match (whole, raw) {
            (true, _) => head.replacen("\r\n", &format!("\r\ncontent-length: {}\r\n", begin.len()), 1),
            (false, true) => head.to_owned(),
            (false, false) => head.replacen("\r\n", "\r\ntransfer-encoding: chunked\r\n", 1),
        };
        let mut answer = head.into_bytes();
        if whole || raw {
            answer.extend_from_slice(begin);
        } else {
            answer.extend(
                format!("{:x}\r\n", begin.len()).bytes().chain(begin.iter().copied()).chain(*b"\r\n"),
            );
        }
        if stream.write_all(&answer).await.is_err() || whole {
            return;
        }
        let mut chunk = vec![b'a'; 64 * 1024];
        if !raw {
            chunk = [format!("{:x}\r\n", chunk.len()).into_bytes(), chunk, b"\r\n".to_vec()].concat();
        }
        let mut total = 0;
        while stream.write_all(&chunk).await.is_ok() {
            total += chunk.len();
        }
        let _ = sent.send(total);
    }

    #[tokio::test(flavor = "multi_thread")]
    async fn an_engine_that_sends_without_end_costs_bounded_memory() {
        let bench = Bench::new();
        let cx = bench.context();
        let socket = bench.folder().join("d.sock");
        let mut sent = engine(&socket);
        let mut host = Host::new();
        host.env.insert("DOCKER_HOST".into(), format!("unix://{}", socket.display()));
        let client = Client::connect(&host).await.unwrap();
        let mut most = async |limit: u64| {
            let sent = sent.recv().await.unwrap() as u64;
            // What is on the way between the two comes to it.
            assert!(sent <= limit + (4 << 20), "{sent} bytes were taken");
        };

        let error = client.pull(cx, "x", "", None).await.unwrap_err();
        assert_eq!(error.message(), "pull x: the engine sends more than 4 MiB at once");
        most(LONGEST_PIECE).await;
        assert!(bench.recorder().lines().contains(&"first".to_owned()), "{:?}", bench.recorder().lines());
        let error = client.push(cx, "x", "", None).await.unwrap_err();
        assert_eq!(error.message(), "push x: the engine sends more than 4 MiB at once");
        most(LONGEST_PIECE).await;
        for name in ["x", "y"] {
            let error = client.image(name).await.unwrap_err();
            assert!(error.message().ends_with("the engine sends more than 64 MiB at once"), "{error}");
            most(LONGEST_ANSWER).await;
        }
        let communicator = DockerCommunicator::connect(client, "c", Options::default()).await.unwrap();
        let error = communicator.exec(cx, Command::new("true")).await.unwrap_err();
        assert!(error.message().ends_with("the engine sends more than 4 MiB at once"), "{error}");
        most(LONGEST_PIECE).await;
    }

    #[test]
    fn an_address_says_which_way() {
        let way = |address: &str| {
            let endpoint = Endpoint { address: address.to_owned(), certificates: None };
            Way::to(&endpoint, &Host::new())
        };
        for (address, host, port, base) in [
            ("tcp://far:1", "far", 1, ""),
            ("http://far", "far", 2375, ""),
            ("tcp://[::1]:2/", "::1", 2, ""),
            ("tcp://far:1/a/b/", "far", 1, "/a/b"),
        ] {
            let Ok(Way::Tcp { host: h, port: p, base: b }) = way(address) else { panic!("{address}") };
            assert_eq!((h.as_str(), p, b.as_str()), (host, port, base), "{address}");
        }
        assert!(matches!(way("unix:///run/x.sock"), Ok(Way::Unix(path)) if path == "/run/x.sock"));
        for wrong in ["", "far:1", "ftp://far", "tcp://", "tcp://far:port", "https://far"] {
            assert!(way(wrong).is_err(), "{wrong}");
        }
    }
}
