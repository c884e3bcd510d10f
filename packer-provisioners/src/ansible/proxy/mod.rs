//! An SSH server on 127.0.0.1 through which Ansible reaches the machine: commands and files go on to the communicator.

use std::collections::{HashMap, VecDeque};
use std::sync::Arc;
use std::time::Duration;

use packer_core::{Communicator, Context, Error, Result};
use russh::keys::{PrivateKey, PublicKey};
use russh::server::{
    Auth, ChannelOpenHandle, Config, Handle, Handler, Msg, PublicKeyOffer, Session, VerifiedPublicKey,
};
use russh::{Channel, ChannelId, MethodKind, MethodSet, Pty};
use tokio::net::{TcpListener, TcpStream};
use tokio::task::{AbortHandle, JoinSet};
use tokio_util::sync::CancellationToken;
use tokio_util::task::task_tracker::TaskTrackerToken;
use tokio_util::task::{AbortOnDropHandle, TaskTracker};

mod exec;
mod remote;
mod scp;
mod sftp;
#[cfg(test)]
mod tests;

use remote::Remote;

/// How many ports are tried where the first one is given.
const PORTS: u16 = 10;

/// How many connections there may be at once: Ansible's forks, each with one or two.
const MOST_CONNECTIONS: usize = 512;

/// How many of them have not logged in. Whoever is on this computer can connect: when there are more, the one that has waited
/// longest goes.
const MOST_STRANGERS: usize = 64;

/// How long a login may take.
const LOGIN_LIMIT: Duration = Duration::from_secs(60);

/// How many channels a connection has: where Ansible keeps one for all hosts, one for each fork or two.
const MOST_CHANNELS: usize = 512;

/// How long the end of what runs through a server is waited for.
const END_LIMIT: Duration = Duration::from_secs(10);

/// How many packets of one channel (32 KiB at most each) may wait for a machine that is slower than Ansible before the
/// whole connection waits.
const WAITING_PACKETS: usize = 512;

/// How much of a connection is on its way between the socket and the server.
const PIPE: usize = 256 << 10;

/// What the server is to be.
pub(super) struct Settings {
    /// The first port to try; 0 is any.
    pub(super) first_port: u16,
    pub(super) host_key: PrivateKey,
    /// Who is let in.
    pub(super) authorized: PublicKey,
    pub(super) user: String,
    /// The machine's own SFTP server, where it is to serve.
    pub(super) sftp_command: Option<String>,
}

/// A server that runs. Dropped, it ends at once with all connections and all that runs through them.
pub(super) struct Proxy {
    port: u16,
    /// Dropping it ends all work.
    accepting: AbortOnDropHandle<()>,
    /// All that runs: connections, the commands and files that go through them.
    work: TaskTracker,
}

impl Proxy {
    /// Listens on 127.0.0.1.
    pub(super) async fn start(
        cx: &Context,
        communicator: Arc<dyn Communicator>,
        settings: Settings,
    ) -> Result<Self> {
        let listener = listen(cx, settings.first_port).await?;
        let port = listener.local_addr().map_err(|e| Error::network("127.0.0.1").with_source(e))?.port();
        let config = Config {
            keys: vec![settings.host_key],
            methods: MethodSet::from(&[MethodKind::PublicKey][..]),
            // Nobody guesses here: who has no key is told so at once.
            auth_rejection_time: Duration::from_millis(100),
            auth_rejection_time_initial: Some(Duration::ZERO),
            // A task of a playbook may be silent for hours.
            inactivity_timeout: None,
            channel_buffer_size: WAITING_PACKETS,
            nodelay: true,
            ..Config::default()
        };
        let work = TaskTracker::new();
        let rules = Rules {
            remote: Remote {
                cx: cx.clone(),
                communicator,
                unix: cx.facts().text("ConnType").as_deref() != Some("winrm"),
                stop: CancellationToken::new(),
                work: work.clone(),
            },
            user: settings.user,
            authorized: settings.authorized,
            sftp_command: settings.sftp_command,
        };
        let accepting = tokio::spawn(accept(listener, Arc::new(config), Arc::new(rules)));
        Ok(Self { port, accepting: AbortOnDropHandle::new(accepting), work })
    }

    pub(super) fn port(&self) -> u16 {
        self.port
    }

    /// Ends it, and waits until all has ended that runs through it: an upload that is cut off takes back what it has begun.
    pub(super) async fn end(self) {
        let Self { accepting, work, .. } = self;
        accepting.abort();
        let ended = async {
            let _ = accepting.await;
            work.close();
            work.wait().await;
        };
        // What takes longer ends behind our back.
        let _ = tokio::time::timeout(END_LIMIT, ended).await;
    }
}

async fn listen(cx: &Context, first: u16) -> Result<TcpListener> {
    let last = if first == 0 { 0 } else { first.saturating_add(PORTS - 1) };
    let mut why = None;
    for port in first..=last {
        match TcpListener::bind(("127.0.0.1", port)).await {
            Ok(listener) => return Ok(listener),
            Err(e) => {
                if port != last {
                    cx.say(format!("127.0.0.1:{port}: {e}; trying the next port"));
                }
                why = Some(e);
            }
        }
    }
    let error = Error::network(format!(
        "no port from {first} to {last} of 127.0.0.1 is free for Ansible's SSH server; set another local_port, or none"
    ));
    Err(match why {
        Some(why) => error.with_source(why),
        None => error,
    })
}

/// Takes connections until it is dropped.
async fn accept(listener: TcpListener, config: Arc<Config>, rules: Arc<Rules>) {
    let mut connections = JoinSet::new();
    let mut strangers: VecDeque<(CancellationToken, AbortHandle)> = VecDeque::new();
    loop {
        let socket = match listener.accept().await {
            Ok((socket, _)) => socket,
            // No file descriptors are left, say: some will be.
            Err(_) => {
                tokio::time::sleep(Duration::from_millis(100)).await;
                continue;
            }
        };
        while connections.try_join_next().is_some() {}
        strangers.retain(|(known, task)| !known.is_cancelled() && !task.is_finished());
        if strangers.len() >= MOST_STRANGERS
            && let Some((_, oldest)) = strangers.pop_front()
        {
            oldest.abort();
        }
        if connections.len() < MOST_CONNECTIONS {
            let guest = Guest::new(&rules);
            let known = guest.known.clone();
            let work = serve(socket, config.clone(), guest);
            strangers.push_back((known, connections.spawn(rules.remote.work.track_future(work))));
        }
    }
}

/// Serves one connection. The library's own task sees only a pipe, whose other end is held here: with this future it ends.
async fn serve(mut socket: TcpStream, config: Arc<Config>, guest: Guest) {
    let _ = socket.set_nodelay(true);
    let (mut near, far) = tokio::io::duplex(PIPE);
    let known = guest.known.clone();
    let session = async {
        if let Ok(session) = russh::server::run_stream(config, far, guest).await {
            // A connection that broke is Ansible's to tell.
            let _ = session.await;
        }
    };
    let pump = async {
        let _ = tokio::io::copy_bidirectional_with_sizes(&mut socket, &mut near, 64 << 10, 64 << 10).await;
        drop(near);
    };
    let late = async {
        if tokio::time::timeout(LOGIN_LIMIT, known.cancelled()).await.is_ok() {
            std::future::pending().await
        }
    };
    tokio::select! {
        _ = async { tokio::join!(session, pump) } => {}
        () = late => {}
    }
}

/// Who is let in, and where to.
struct Rules {
    remote: Remote,
    user: String,
    authorized: PublicKey,
    sftp_command: Option<String>,
}

/// What one connection may do.
struct Guest {
    rules: Arc<Rules>,
    /// Cancelled when it has logged in.
    known: CancellationToken,
    /// Channels that are open, as long as they have not been told what they are for.
    channels: HashMap<ChannelId, Option<Channel<Msg>>>,
    /// The work of channels; ends with this value.
    busy: JoinSet<()>,
    /// Notes that the connection is there.
    _here: TaskTrackerToken,
}

impl Guest {
    fn new(rules: &Arc<Rules>) -> Self {
        Self {
            rules: rules.clone(),
            known: CancellationToken::new(),
            channels: HashMap::new(),
            busy: JoinSet::new(),
            _here: rules.remote.work.token(),
        }
    }

    fn judge(&self, user: &str, key: &PublicKey) -> Auth {
        if user == self.rules.user && key.key_data() == self.rules.authorized.key_data() {
            return Auth::Accept;
        }
        Auth::reject()
    }

    /// Starts the work of a channel.
    fn begin<F: Future<Output = ()> + Send + 'static>(
        &mut self,
        id: ChannelId,
        session: &mut Session,
        work: impl FnOnce(Channel<Msg>, Handle, Remote) -> F,
    ) -> Result<(), russh::Error> {
        let Some(channel) = self.channels.get_mut(&id).and_then(Option::take) else {
            return session.channel_failure(id);
        };
        while self.busy.try_join_next().is_some() {}
        if self.busy.len() >= MOST_CHANNELS {
            session.channel_failure(id)?;
            return session.close(id);
        }
        let remote = &self.rules.remote;
        self.busy.spawn(remote.work.track_future(work(channel, session.handle(), remote.clone())));
        session.channel_success(id)
    }
}

impl Handler for Guest {
    type Error = russh::Error;

    async fn auth_publickey_offered(
        &mut self,
        user: &str,
        key: PublicKeyOffer<'_>,
    ) -> Result<Auth, Self::Error> {
        Ok(self.judge(user, key.public_key))
    }

    async fn auth_publickey(&mut self, user: &str, key: VerifiedPublicKey<'_>) -> Result<Auth, Self::Error> {
        Ok(self.judge(user, key.public_key))
    }

    async fn auth_succeeded(&mut self, _: &mut Session) -> Result<(), Self::Error> {
        self.known.cancel();
        Ok(())
    }

    async fn channel_open_session(
        &mut self,
        channel: Channel<Msg>,
        reply: ChannelOpenHandle,
        _: &mut Session,
    ) -> Result<(), Self::Error> {
        // A reply that is dropped refuses.
        if self.channels.len() < MOST_CHANNELS {
            self.channels.insert(channel.id(), Some(channel));
            reply.accept().await;
        }
        Ok(())
    }

    async fn channel_close(&mut self, channel: ChannelId, _: &mut Session) -> Result<(), Self::Error> {
        self.channels.remove(&channel);
        Ok(())
    }

    /// Terminals are the machine's communicator's; who asks for one goes on without.
    async fn pty_request(
        &mut self,
        channel: ChannelId,
        _: &str,
        _: u32,
        _: u32,
        _: u32,
        _: u32,
        _: &[(Pty, u32)],
        session: &mut Session,
    ) -> Result<(), Self::Error> {
        session.channel_success(channel)
    }

    async fn env_request(
        &mut self,
        channel: ChannelId,
        _: &str,
        _: &str,
        session: &mut Session,
    ) -> Result<(), Self::Error> {
        session.channel_success(channel)
    }

    async fn shell_request(&mut self, channel: ChannelId, session: &mut Session) -> Result<(), Self::Error> {
        self.begin(channel, session, |channel, handle, remote| {
            exec::run(channel, handle, remote, "/bin/sh".to_owned())
        })
    }

    async fn exec_request(
        &mut self,
        channel: ChannelId,
        data: &[u8],
        session: &mut Session,
    ) -> Result<(), Self::Error> {
        let Ok(command) = std::str::from_utf8(data) else { return session.channel_failure(channel) };
        match scp::Request::parse(command) {
            Some(request) => self.begin(channel, session, |channel, handle, remote| {
                scp::run(channel, handle, remote, request)
            }),
            None => {
                let command = command.to_owned();
                self.begin(channel, session, |channel, handle, remote| {
                    exec::run(channel, handle, remote, command)
                })
            }
        }
    }

    async fn subsystem_request(
        &mut self,
        channel: ChannelId,
        name: &str,
        session: &mut Session,
    ) -> Result<(), Self::Error> {
        if name != "sftp" {
            return session.channel_failure(channel);
        }
        match self.rules.sftp_command.clone() {
            Some(command) => self.begin(channel, session, |channel, handle, remote| {
                exec::run(channel, handle, remote, command)
            }),
            None => self.begin(channel, session, sftp::run),
        }
    }
}
