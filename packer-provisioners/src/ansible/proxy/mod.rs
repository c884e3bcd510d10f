//! An SSH server on 127.0.0.1 through which Ansible reaches the machine: commands and files go on to the communicator.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError, Weak};
use std::time::Duration;

use packer_core::{Communicator, Context, Error, Result};
use russh::keys::{PrivateKey, PublicKey};
use russh::server::{
    Auth, ChannelOpenHandle, Config, Handle, Handler, Msg, PublicKeyOffer, Session, VerifiedPublicKey,
};
use russh::{Channel, ChannelId, Pty};
use tokio::net::{TcpListener, TcpStream};
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;

mod exec;
mod remote;
mod scp;
mod sftp;

use remote::Remote;

/// How many ports are tried where the first one is given.
const PORTS: u16 = 10;

/// How many connections there may be at once: Ansible's forks, each with one or two.
const MOST_CONNECTIONS: usize = 1024;

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
    _tasks: Tasks,
}

/// All work of a server: its connections and the commands and files that go through them.
struct Tasks(Arc<Mutex<JoinSet<()>>>);

impl Drop for Tasks {
    fn drop(&mut self) {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).abort_all();
    }
}

/// Adds work to a server, as long as that lives.
#[derive(Clone)]
struct Spawner(Weak<Mutex<JoinSet<()>>>);

impl Spawner {
    /// `false` where there is too much work already, or the server has ended.
    fn spawn(&self, most: usize, work: impl Future<Output = ()> + Send + 'static) -> bool {
        let Some(tasks) = self.0.upgrade() else { return false };
        let mut tasks = tasks.lock().unwrap_or_else(PoisonError::into_inner);
        while tasks.try_join_next().is_some() {}
        let room = tasks.len() < most;
        if room {
            tasks.spawn(work);
        }
        room
    }
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
            // Nobody guesses here: who has no key is told so at once.
            auth_rejection_time: Duration::from_millis(100),
            auth_rejection_time_initial: Some(Duration::ZERO),
            // A task of a playbook may be silent for hours.
            inactivity_timeout: None,
            channel_buffer_size: WAITING_PACKETS,
            nodelay: true,
            ..Config::default()
        };
        let tasks = Tasks(Arc::default());
        let spawner = Spawner(Arc::downgrade(&tasks.0));
        let guest = Guest {
            remote: Remote {
                cx: cx.clone(),
                communicator,
                unix: cx.facts().text("ConnType").as_deref() != Some("winrm"),
                stop: CancellationToken::new(),
            },
            user: settings.user,
            authorized: settings.authorized,
            sftp_command: settings.sftp_command,
            spawner: spawner.clone(),
            channels: HashMap::new(),
        };
        spawner.spawn(MOST_CONNECTIONS, accept(listener, Arc::new(config), guest));
        Ok(Self { port, _tasks: tasks })
    }

    pub(super) fn port(&self) -> u16 {
        self.port
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
async fn accept(listener: TcpListener, config: Arc<Config>, guest: Guest) {
    loop {
        match listener.accept().await {
            Ok((socket, _)) => {
                guest.spawner.spawn(MOST_CONNECTIONS, serve(socket, config.clone(), guest.fresh()));
            }
            // No file descriptors are left, say: some will be.
            Err(_) => tokio::time::sleep(Duration::from_millis(100)).await,
        }
    }
}

/// Serves one connection. The library's own task sees only a pipe, whose other end is held here: with this future it ends.
async fn serve(mut socket: TcpStream, config: Arc<Config>, guest: Guest) {
    let _ = socket.set_nodelay(true);
    let (mut near, far) = tokio::io::duplex(PIPE);
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
    tokio::join!(session, pump);
}

/// What one connection may do.
struct Guest {
    remote: Remote,
    user: String,
    authorized: PublicKey,
    sftp_command: Option<String>,
    spawner: Spawner,
    /// Channels that are open and have not been told yet what they are for.
    channels: HashMap<ChannelId, Channel<Msg>>,
}

impl Guest {
    fn fresh(&self) -> Self {
        Self {
            remote: self.remote.clone(),
            user: self.user.clone(),
            authorized: self.authorized.clone(),
            sftp_command: self.sftp_command.clone(),
            spawner: self.spawner.clone(),
            channels: HashMap::new(),
        }
    }

    fn judge(&self, user: &str, key: &PublicKey) -> Auth {
        if user == self.user && key.key_data() == self.authorized.key_data() {
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
        let Some(channel) = self.channels.remove(&id) else { return session.channel_failure(id) };
        match self.spawner.spawn(2 * MOST_CONNECTIONS, work(channel, session.handle(), self.remote.clone())) {
            true => session.channel_success(id),
            false => session.channel_failure(id),
        }
    }
}

/// How many channels of a connection may wait for a request.
const MOST_IDLE_CHANNELS: usize = 64;

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

    async fn channel_open_session(
        &mut self,
        channel: Channel<Msg>,
        reply: ChannelOpenHandle,
        _: &mut Session,
    ) -> Result<(), Self::Error> {
        // A reply that is dropped refuses.
        if self.channels.len() < MOST_IDLE_CHANNELS {
            self.channels.insert(channel.id(), channel);
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
        match self.sftp_command.clone() {
            Some(command) => self.begin(channel, session, |channel, handle, remote| {
                exec::run(channel, handle, remote, command)
            }),
            None => self.begin(channel, session, sftp::run),
        }
    }
}
