//! One connection: dialled, its host checked, logged in.

use std::fmt;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use russh::client::{self, ChannelOpenHandle, DisconnectReason, Handle, Msg};
use russh::keys::{HashAlg, PublicKey, PublicKeyOrCertificate};
use russh::{AlgorithmKind, Channel, ChannelMsg, Disconnect};
use tokio::net::TcpStream;
use tokio::time::timeout;
use tokio_util::sync::{CancellationToken, DropGuard};

use super::super::waiting::Cause;
use super::auth::log_in;
use super::host_key::{ASK_LIMIT, Trust};
use super::proxy::Proxy;
use super::settings::{Hop, Settings};
use super::side::{Streams, Wanted, dial_agent};
use super::stage::Stage;
use super::stream::{Timed, Until};
use super::tcp::{DIAL_LIMIT, bare, tcp};
use crate::error::{Error, Result, Unreachable, os_text};
use crate::kit::stream::Stream;

const HANDSHAKE_LIMIT: Duration = Duration::from_secs(60);
/// The same where a person answers questions.
const PERSON_LIMIT: Duration = Duration::from_secs(10 * 60);
const OPEN_LIMIT: Duration = Duration::from_secs(60);
const PING_LIMIT: Duration = Duration::from_secs(10);

/// Why a connection did not come to be.
#[derive(Debug)]
pub(super) enum Failure {
    /// The machine is not ready: another try may succeed.
    Later(String),
    /// The same, and it is known of what kind the reason is.
    Because(Cause),
    /// The login was refused.
    Refused(String),
    /// No further try can succeed.
    Never(Error),
}

impl Failure {
    pub(super) fn why(&self) -> Unreachable {
        match self {
            Self::Later(_) => Unreachable::Other,
            Self::Because(cause) => cause.why,
            Self::Refused(_) => Unreachable::LoginRefused,
            Self::Never(error) => error.why_unreachable().unwrap_or(Unreachable::Other),
        }
    }

    pub(super) fn cause(&self) -> Cause {
        Cause::new(self.why(), self.to_string())
    }

    pub(super) fn into_error(self) -> Error {
        match self {
            Self::Never(error) => error,
            _ => Error::unreachable(self.why(), self.cause().with_advice()),
        }
    }
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Later(text) | Self::Because(Cause { text, .. }) | Self::Refused(text) => f.write_str(text),
            Self::Never(error) => error.fmt(f),
        }
    }
}

/// A bastion, and the connection to it that attempts share.
pub(super) struct Bastion {
    hop: Hop,
    current: Mutex<Option<Arc<Connection>>>,
}

impl Bastion {
    pub(super) fn new(hop: Hop) -> Self {
        Self { hop, current: Mutex::default() }
    }

    fn current(&self) -> MutexGuard<'_, Option<Arc<Connection>>> {
        self.current.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn standing(&self) -> Option<Arc<Connection>> {
        self.current().clone().filter(|connection| !connection.is_closed())
    }

    /// Keeps a connection, unless another attempt was first.
    fn keep(&self, fresh: Arc<Connection>) -> Arc<Connection> {
        let mut current = self.current();
        match current.clone().filter(|connection| !connection.is_closed()) {
            Some(standing) => standing,
            None => current.insert(fresh).clone(),
        }
    }

    /// The next attempt makes a new one.
    fn forget(&self, broken: &Arc<Connection>) {
        self.current().take_if(|current| Arc::ptr_eq(current, broken));
    }
}

/// A connection that is logged in. Dropping it ends it, once its last channel is gone.
pub(super) struct Connection {
    handle: Arc<Handle<Client>>,
    /// `HOST:PORT`.
    peer: String,
    ended: Notes,
    /// The host's key that nobody could check: kind and fingerprint.
    unchecked: Notes,
    streams: Streams,
    /// Ends what is carried beside commands.
    _beside: DropGuard,
    /// Carries this connection where the machine is behind a bastion.
    _bastion: Option<Arc<Self>>,
}

impl Connection {
    /// Dials the machine, through the bastion where there is one. Dropped before its end it leaves nothing open.
    pub(super) async fn dial(settings: &Settings, stage: &Stage) -> Result<Self, Failure> {
        let hop = &settings.target;
        let Some(way) = &settings.bastion else {
            let stream = match &settings.proxy {
                Some(proxy) => through(proxy, hop, stage).await?,
                None => tcp(&hop.host, hop.port, stage).await?,
            };
            return Self::over(settings, hop, stage, Box::new(stream), None).await;
        };
        let bastion = Self::to_bastion(settings, way, stage).await?;
        stage.is_led_on();
        let name = format!("the bastion {}", way.hop.endpoint());
        stage.is_dialled_by(&name, &hop.host, hop.port);
        let open = bastion.handle.channel_open_direct_tcpip(&hop.host, hop.port.into(), "127.0.0.1", 0);
        let channel = match timeout(DIAL_LIMIT, open).await {
            Ok(Ok(channel)) => channel,
            Ok(Err(e)) => {
                if !matches!(e, russh::Error::ChannelOpenFailure(_)) {
                    way.forget(&bastion);
                }
                let text = format!("{name} could not reach {}: {e}", hop.endpoint());
                return Err(Failure::Because(Cause::new(Unreachable::NoRoute, text)));
            }
            Err(_) => {
                way.forget(&bastion);
                let text = format!("{name} did not reach {} in time", hop.endpoint());
                return Err(Failure::Because(Cause::new(Unreachable::Silent, text)));
            }
        };
        stage.accepted();
        Self::over(settings, hop, stage, Box::new(channel.into_stream()), Some(bastion)).await
    }

    /// The connection to the bastion: the one that stands already, for a person would be asked again.
    async fn to_bastion(settings: &Settings, way: &Bastion, stage: &Stage) -> Result<Arc<Self>, Failure> {
        if let Some(standing) = way.standing() {
            return Ok(standing);
        }
        let hop = &way.hop;
        let stream = tcp(&hop.host, hop.port, stage).await?;
        let fresh = Self::over(settings, hop, stage, Box::new(stream), None).await?;
        Ok(way.keep(Arc::new(fresh)))
    }

    async fn over(
        settings: &Settings,
        hop: &Hop,
        stage: &Stage,
        stream: Stream,
        bastion: Option<Arc<Self>>,
    ) -> Result<Self, Failure> {
        // russh works on by itself when nobody waits for the handshake any more: this ends it.
        let token = CancellationToken::new();
        let unfinished = token.clone().drop_guard();
        // Questions whether the peer is there are only asked while russh is not writing: a peer that vanishes in the
        // middle of an upload is found by a write that makes no progress.
        let write = [settings.patience, settings.read_write].into_iter().flatten().min();
        let stream = Timed::new(Until::new(stream, token), settings.read_write, write);
        let stream = stage.listens_to(stream);
        let notes = Notes::default();
        let mut wanted =
            if std::ptr::eq(hop, &settings.target) { settings.wanted.clone() } else { Wanted::default() };
        if let Some(agent) = &wanted.agent
            && dial_agent(agent).await.is_err()
        {
            wanted.agent = None;
        }
        let (streams, beside) = Streams::new(wanted);
        let client = Client {
            streams: streams.clone(),
            trust: hop.trust.clone(),
            stage: stage.clone(),
            host: hop.host.clone(),
            port: hop.port,
            distrust: Notes::default(),
            unchecked: Notes::default(),
            ended: notes.clone(),
        };
        let (distrust, unchecked) = (client.distrust.clone(), client.unchecked.clone());
        let handshake = async {
            let config = Arc::new(settings.client(hop));
            let mut handle =
                client::connect_stream(config, stream, client).await.map_err(|e| match distrust.take() {
                    Some(why) => Failure::Never(Error::unreachable(Unreachable::HostKey, why)),
                    None => Failure::Because(stage.failed(&e)),
                })?;
            let _turn = stage.logs_in().await;
            log_in(&mut handle, hop, stage).await?;
            let handle = Arc::new(handle);
            streams.open_tunnels(&handle, stage).await?;
            Ok(handle)
        };
        let limit = if hop.login.person.is_some() { PERSON_LIMIT } else { HANDSHAKE_LIMIT };
        let limit = if matches!(hop.trust, Trust::Asked(_)) { limit + ASK_LIMIT } else { limit };
        match timeout(limit, handshake).await {
            Ok(handle) => {
                let handle = handle?;
                unfinished.disarm();
                let (peer, ended) = (hop.endpoint(), notes);
                Ok(Self { handle, peer, ended, unchecked, streams, _beside: beside, _bastion: bastion })
            }
            Err(_) => Err(Failure::Because(stage.describe())),
        }
    }

    /// Opens a channel for one command or transfer.
    pub(super) async fn open(&self) -> Result<Channel<Msg>> {
        match timeout(OPEN_LIMIT, self.handle.channel_open_session()).await {
            Ok(Ok(channel)) => Ok(channel),
            Ok(Err(e)) => Err(self.broken(&said(&e))),
            Err(_) => Err(self.broken("the server did not answer in time")),
        }
    }

    /// The key of the machine where nobody could check it: kind and fingerprint.
    pub(super) fn unchecked_key(&self) -> Option<String> {
        self.unchecked.get()
    }

    /// Whether commands may ask the SSH agent of this computer.
    pub(super) fn forwards_agent(&self) -> bool {
        self.streams.forward_agent()
    }

    /// Closes tunnels and whatever else is carried beside commands; returns when their ports are free.
    pub(super) async fn end_streams(&self) {
        self.streams.end().await;
    }

    /// Whether the connection is gone.
    pub(super) fn is_closed(&self) -> bool {
        self.handle.is_closed()
    }

    /// Whether the server is still there: it is asked.
    pub(super) async fn stands(&self) -> bool {
        let asked = timeout(PING_LIMIT, self.handle.send_ping()).await;
        // A connection that ended meanwhile ends the waiting for an answer too.
        matches!(asked, Ok(Ok(()))) && self.ended.get().is_none() && !self.is_closed()
    }

    /// The error of work that ended with the connection, or with its channel for reasons of `why`.
    pub(super) fn broken(&self, why: &str) -> Error {
        match self.ended.get() {
            Some(reason) => Error::network(format!("the SSH connection to {} broke: {reason}", self.peer)),
            None => Error::network(format!("SSH to {}: {why}", self.peer)),
        }
    }
}

impl Drop for Connection {
    fn drop(&mut self) {
        // The first poll queues the farewell; a full queue has nobody who would read it.
        let farewell = self.handle.disconnect(Disconnect::ByApplication, "", "");
        let _ = futures_util::FutureExt::now_or_never(farewell);
    }
}

/// Waits for the answer to a request on a channel that has not carried data yet.
pub(super) async fn granted(channel: &mut Channel<Msg>) -> bool {
    while let Some(message) = channel.wait().await {
        match message {
            ChannelMsg::Success => return true,
            ChannelMsg::Failure | ChannelMsg::Close => return false,
            _ => {}
        }
    }
    false
}

/// A way to the machine through a proxy.
async fn through(proxy: &Proxy, hop: &Hop, stage: &Stage) -> Result<TcpStream, Failure> {
    let stream = tcp(&proxy.host, proxy.port, stage).await?;
    let Hop { host, port, .. } = hop;
    stage.is_dialled_by(&proxy.to_string(), host, *port);
    let passed = match timeout(DIAL_LIMIT, proxy.pass(stream, bare(host), *port)).await {
        Ok(passed) => passed.map_err(Failure::Because)?,
        Err(_) => return Err(Failure::Because(stage.describe())),
    };
    stage.accepted();
    Ok(passed)
}

/// The text of a protocol error, with system errors as the system words them.
pub(super) fn said(error: &russh::Error) -> String {
    match error {
        russh::Error::IO(e) => os_text(e),
        russh::Error::HUP | russh::Error::Disconnect => "the server closed the connection".into(),
        russh::Error::SendError | russh::Error::RecvError => "the connection is closed".into(),
        russh::Error::KeepaliveTimeout => "the server does not answer any more".into(),
        russh::Error::NoCommonAlgo { kind, ours, theirs } => {
            let kind = match kind {
                AlgorithmKind::Kex => "method of exchanging keys",
                AlgorithmKind::Key => "kind of host key",
                AlgorithmKind::Cipher => "cipher",
                AlgorithmKind::Compression => "compression",
                AlgorithmKind::Mac => "message authentication code",
            };
            let list = |names: &[String]| if names.is_empty() { "nothing".into() } else { names.join(", ") };
            format!("no common {kind}: we offer {}, the server {}", list(ours), list(theirs))
        }
        other => other.to_string(),
    }
}

/// A text that one task leaves for another.
#[derive(Clone, Default)]
struct Notes(Arc<Mutex<Option<String>>>);

impl Notes {
    fn set(&self, text: String) {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).get_or_insert(text);
    }

    fn get(&self) -> Option<String> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    fn take(&self) -> Option<String> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).take()
    }
}

/// What russh calls back.
pub(super) struct Client {
    streams: Streams,
    trust: Trust,
    stage: Stage,
    host: String,
    port: u16,
    /// Why the host's key was refused.
    distrust: Notes,
    /// The host's key where any will do.
    unchecked: Notes,
    /// Why the connection ended.
    ended: Notes,
}

impl client::Handler for Client {
    type Error = russh::Error;

    async fn check_server_key(&mut self, shown: &PublicKeyOrCertificate) -> Result<bool, russh::Error> {
        let key = match shown {
            PublicKeyOrCertificate::PublicKey { key, .. } => key.clone(),
            PublicKeyOrCertificate::Certificate(certificate) => {
                PublicKey::new(certificate.public_key().clone(), "")
            }
        };
        if matches!(self.trust, Trust::Asked(_)) {
            self.stage.asks_for_host_keys();
            self.trust = self.trust.settled().await;
        }
        match self.trust.check(&self.host, self.port, &key) {
            Ok(()) => {
                if matches!(self.trust, Trust::Any) {
                    self.unchecked.set(format!("{} {}", key.algorithm(), key.fingerprint(HashAlg::Sha256)));
                }
                Ok(true)
            }
            Err(why) => {
                self.distrust.set(why);
                Ok(false)
            }
        }
    }

    async fn server_channel_open_forwarded_tcpip(
        &mut self,
        channel: Channel<Msg>,
        _: &str,
        port: u32,
        _: &str,
        _: u32,
        reply: ChannelOpenHandle,
        _: &mut client::Session,
    ) -> Result<(), russh::Error> {
        self.streams.arrive(channel, port, reply);
        Ok(())
    }

    async fn server_channel_open_agent_forward(
        &mut self,
        channel: Channel<Msg>,
        reply: ChannelOpenHandle,
        _: &mut client::Session,
    ) -> Result<(), russh::Error> {
        self.streams.ask_agent(channel, reply);
        Ok(())
    }

    // What nobody asked for is refused.

    async fn server_channel_open_forwarded_streamlocal(
        &mut self,
        _: Channel<Msg>,
        _: &str,
        _: ChannelOpenHandle,
        _: &mut client::Session,
    ) -> Result<(), russh::Error> {
        Ok(())
    }

    async fn server_channel_open_session(
        &mut self,
        _: Channel<Msg>,
        _: ChannelOpenHandle,
        _: &mut client::Session,
    ) -> Result<(), russh::Error> {
        Ok(())
    }

    async fn server_channel_open_direct_tcpip(
        &mut self,
        _: Channel<Msg>,
        _: &str,
        _: u32,
        _: &str,
        _: u32,
        _: ChannelOpenHandle,
        _: &mut client::Session,
    ) -> Result<(), russh::Error> {
        Ok(())
    }

    async fn server_channel_open_x11(
        &mut self,
        _: Channel<Msg>,
        _: &str,
        _: u32,
        _: ChannelOpenHandle,
        _: &mut client::Session,
    ) -> Result<(), russh::Error> {
        Ok(())
    }

    async fn server_channel_open_direct_streamlocal(
        &mut self,
        _: Channel<Msg>,
        _: &str,
        _: ChannelOpenHandle,
        _: &mut client::Session,
    ) -> Result<(), russh::Error> {
        Ok(())
    }

    async fn disconnected(&mut self, reason: DisconnectReason<russh::Error>) -> Result<(), russh::Error> {
        match reason {
            DisconnectReason::ReceivedDisconnect(info) if info.message.is_empty() => {
                self.ended.set("the server ended it".into());
                Ok(())
            }
            DisconnectReason::ReceivedDisconnect(info) => {
                self.ended.set(format!("the server ended it: {}", info.message));
                Ok(())
            }
            DisconnectReason::Error(error) => {
                self.ended.set(said(&error));
                Err(error)
            }
        }
    }
}
