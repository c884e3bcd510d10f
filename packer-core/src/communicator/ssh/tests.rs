//! What no OpenSSH server does: a server that closes channels without a word about how the command ended.

use std::sync::Arc;
use std::time::{Duration, Instant};

use russh::keys::PrivateKey;
use russh::server::{self, Auth, ChannelOpenHandle, Msg, Session};
use russh::{Channel, ChannelId};
use tokio::net::TcpListener;

use crate::communicator::{CommunicatorConfig, CommunicatorExt, ExitStatus, StatusLost, Target};
use crate::error::Fault;
use crate::testing::Bench;

/// Lets everybody in. Of a command it prints the text and closes the channel; `break` breaks the connection.
struct Forgetful;

impl server::Handler for Forgetful {
    type Error = russh::Error;

    async fn auth_none(&mut self, _: &str) -> Result<Auth, russh::Error> {
        Ok(Auth::Accept)
    }

    async fn channel_open_session(
        &mut self,
        _: Channel<Msg>,
        reply: ChannelOpenHandle,
        _: &mut Session,
    ) -> Result<(), russh::Error> {
        reply.accept().await;
        Ok(())
    }

    async fn exec_request(
        &mut self,
        channel: ChannelId,
        command: &[u8],
        session: &mut Session,
    ) -> Result<(), russh::Error> {
        session.channel_success(channel)?;
        session.data(channel, command.to_vec())?;
        if command.starts_with(b"code") {
            session.exit_status_request(channel, 7)?;
        }
        if command.starts_with(b"break") {
            return Err(russh::Error::Disconnect);
        }
        session.eof(channel)?;
        session.close(channel)
    }
}

async fn forgetful_server() -> u16 {
    const KEY: &str = "-----BEGIN PRIVATE KEY-----\n\
        MC4CAQAwBQYDK2VwBCIEIJ+DYvh6SEqVTm50DFtMDoQikTmiCqirVv9mWG9qfSnF\n-----END PRIVATE KEY-----\n";
    let key: PrivateKey = super::keys::parse_key(KEY).unwrap();
    let config = Arc::new(server::Config { keys: vec![key], ..server::Config::default() });
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let port = listener.local_addr().unwrap().port();
    tokio::spawn(async move {
        loop {
            let (stream, _) = listener.accept().await.unwrap();
            let config = config.clone();
            tokio::spawn(async move {
                if let Ok(session) = server::run_stream(config, stream, Forgetful).await {
                    let _ = session.await;
                }
            });
        }
    });
    port
}

#[tokio::test(flavor = "multi_thread")]
async fn a_status_that_nobody_tells_is_an_error_while_the_connection_stands() {
    let bench = Bench::new();
    let cx = bench.context();
    let config = CommunicatorConfig::ssh("anybody").host("127.0.0.1").port(forgetful_server().await);
    let machine = config.connect(cx, &Target::default()).await.unwrap();

    let output = machine.output(cx, "code").await.unwrap();
    assert_eq!((output.status, output.text().as_str()), (ExitStatus::Code(7), "code"));

    let began = Instant::now();
    let error = machine.output(cx, "forget").await.unwrap_err();
    assert_eq!(error.to_string(), "the SSH server did not say how the command ended");
    assert!(StatusLost::is_source_of(&error) && error.fault() == Fault::Guest && !error.is_retryable());
    assert!(began.elapsed() < Duration::from_secs(5), "it took {:?}", began.elapsed());

    let output = machine.output(cx, "break").await.unwrap();
    assert_eq!(output.status, ExitStatus::Disconnected);
    let error = machine.output(cx, "forget again").await.unwrap_err();
    assert!(StatusLost::is_source_of(&error), "another connection, which stands: {error}");
}
