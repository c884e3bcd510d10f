//! What a connection carries beside commands: tunnels, and the way to the SSH agent of this computer.

use std::net::Ipv4Addr;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use russh::client::{ChannelOpenHandle, Handle, Msg};
use russh::{Channel, ChannelOpenFailure};
use tokio::io::{AsyncRead, AsyncWrite, copy_bidirectional};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::Semaphore;
use tokio::time::{Instant, sleep, timeout};
use tokio_util::sync::{CancellationToken, DropGuard};
use tokio_util::task::TaskTracker;

use super::super::tunnel::Tunnel;
use super::dial::{Client, Failure};
use super::stage::Stage;
use crate::error::os_text;

/// How many streams one connection carries beside commands at once; more are refused.
const MOST_STREAMS: usize = 512;
const REACH_LIMIT: Duration = Duration::from_secs(15);
/// How long the machine may keep a port that the connection before had opened there.
const STILL_TAKEN: Duration = Duration::from_secs(10);

/// What is wanted beside commands.
#[derive(Debug, Clone, Default)]
pub(super) struct Wanted {
    /// Ports of this computer that lead into the machine.
    pub(super) local: Arc<[Tunnel]>,
    /// Ports of the machine that lead to this computer.
    pub(super) remote: Arc<[Tunnel]>,
    /// Where the agent listens that the machine may ask.
    pub(super) agent: Option<PathBuf>,
}

/// The streams of one connection.
#[derive(Clone)]
pub(super) struct Streams {
    wanted: Wanted,
    over: CancellationToken,
    tasks: TaskTracker,
    room: Arc<Semaphore>,
}

impl Streams {
    /// None yet; all end with the guard.
    pub(super) fn new(wanted: Wanted) -> (Self, DropGuard) {
        let over = CancellationToken::new();
        let guard = over.clone().drop_guard();
        let room = Arc::new(Semaphore::new(MOST_STREAMS));
        (Self { wanted, over, tasks: TaskTracker::new(), room }, guard)
    }

    /// Whether the machine may ask the agent.
    pub(super) fn forward_agent(&self) -> bool {
        self.wanted.agent.is_some()
    }

    /// Ends all of them; returns when their ports are free again.
    pub(super) async fn end(&self) {
        self.over.cancel();
        self.tasks.close();
        self.tasks.wait().await;
    }

    fn start(&self, work: impl Future<Output = ()> + Send + 'static) {
        let over = self.over.clone();
        self.tasks.spawn(async move {
            over.run_until_cancelled(work).await;
        });
    }

    /// Opens the tunnels of a connection that is logged in.
    pub(super) async fn open_tunnels(
        &self,
        handle: &Arc<Handle<Client>>,
        stage: &Stage,
    ) -> Result<(), Failure> {
        for tunnel in self.wanted.local.iter() {
            let port = tunnel.listen;
            stage.opens(format!("port {port} of this computer (ssh_local_tunnels)"));
            let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, port)).await.map_err(|e| {
                Failure::Later(format!("ssh_local_tunnels: listening on 127.0.0.1:{port}: {}", os_text(&e)))
            })?;
            self.start(lead_in(self.clone(), listener, handle.clone(), tunnel.clone()));
        }
        for tunnel in self.wanted.remote.iter() {
            stage.opens(format!("port {} of the machine (ssh_remote_tunnels)", tunnel.listen));
            open_remote(handle, tunnel.listen).await?;
        }
        Ok(())
    }

    /// A connection to a port of the machine leads to this computer.
    pub(super) fn arrive(&self, channel: Channel<Msg>, port: u32, reply: ChannelOpenHandle) {
        // A server that chose the port itself names one that nobody knows here.
        let listens = |tunnel: &&Tunnel| u32::from(tunnel.listen) == port || tunnel.listen == 0;
        let Some(tunnel) = self.wanted.remote.iter().find(listens).cloned() else {
            return drop(reply);
        };
        let reach = async move { TcpStream::connect((tunnel.host.as_str(), tunnel.port)).await };
        self.join(channel, reply, reach);
    }

    /// The machine asks the agent of this computer.
    pub(super) fn ask_agent(&self, channel: Channel<Msg>, reply: ChannelOpenHandle) {
        let Some(agent) = self.wanted.agent.clone() else { return drop(reply) };
        self.join(channel, reply, async move { dial_agent(&agent).await });
    }

    /// Joins a channel that the machine opens with what it is to reach.
    fn join<S: AsyncRead + AsyncWrite + Send + Unpin + 'static>(
        &self,
        channel: Channel<Msg>,
        reply: ChannelOpenHandle,
        reach: impl Future<Output = std::io::Result<S>> + Send + 'static,
    ) {
        let Ok(room) = self.room.clone().try_acquire_owned() else {
            return self.start(reply.reject(ChannelOpenFailure::ResourceShortage));
        };
        self.start(async move {
            let Ok(Ok(mut here)) = timeout(REACH_LIMIT, reach).await else {
                return reply.reject(ChannelOpenFailure::ConnectFailed).await;
            };
            reply.accept().await;
            // Its two ends hear of a failure, and nobody else has a use for it.
            let _ = copy_bidirectional(&mut channel.into_stream(), &mut here).await;
            drop(room);
        });
    }
}

/// Leads what connects to a port of this computer into the machine.
async fn lead_in(streams: Streams, listener: TcpListener, handle: Arc<Handle<Client>>, to: Tunnel) {
    loop {
        let Ok((mut here, from)) = listener.accept().await else {
            // No descriptor is free, or the caller is gone again.
            sleep(Duration::from_millis(100)).await;
            continue;
        };
        let Ok(room) = streams.room.clone().try_acquire_owned() else { continue };
        let (handle, to) = (handle.clone(), to.clone());
        streams.start(async move {
            let open = handle.channel_open_direct_tcpip(
                to.host,
                to.port.into(),
                from.ip().to_string(),
                from.port().into(),
            );
            if let Ok(Ok(channel)) = timeout(REACH_LIMIT, open).await {
                let _ = copy_bidirectional(&mut here, &mut channel.into_stream()).await;
            }
            drop(room);
        });
    }
}

/// Asks the machine to listen. One that has not noticed yet that an earlier connection is gone refuses for a while.
async fn open_remote(handle: &Handle<Client>, port: u16) -> Result<(), Failure> {
    let (mut pause, end) = (Duration::from_millis(50), Instant::now() + STILL_TAKEN);
    loop {
        match handle.tcpip_forward("localhost", port.into()).await {
            Ok(_) => return Ok(()),
            Err(russh::Error::RequestDenied) if Instant::now() < end => {}
            Err(russh::Error::RequestDenied) => {
                return Err(Failure::Later(format!(
                    "ssh_remote_tunnels: the server does not listen on localhost:{port}: the port is taken, or \
                     forwarding is not allowed"
                )));
            }
            Err(e) => return Err(Failure::Later(format!("ssh_remote_tunnels: {e}"))),
        }
        sleep(pause).await;
        pause = (pause * 2).min(Duration::from_secs(1));
    }
}

/// Connects to an SSH agent.
#[cfg(unix)]
pub(super) async fn dial_agent(path: &std::path::Path) -> std::io::Result<tokio::net::UnixStream> {
    tokio::net::UnixStream::connect(path).await
}

/// Connects to an SSH agent.
#[cfg(windows)]
pub(super) async fn dial_agent(
    path: &std::path::Path,
) -> std::io::Result<tokio::net::windows::named_pipe::NamedPipeClient> {
    tokio::net::windows::named_pipe::ClientOptions::new().open(path)
}
