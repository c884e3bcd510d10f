//! Waiting for SSH: what keeps a machine from being entered is told, and a connection that stays silent keeps nobody.
#![cfg(all(unix, feature = "ssh", feature = "testing"))]
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    reason = "tests stop at the first surprise"
)]

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use packer_core::testing::Bench;
use packer_core::testing::sshd::Sshd;
use packer_core::{Communicator, CommunicatorConfig, CommunicatorExt, Error, EventKind, GoDuration, Target};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};

async fn enter(bench: &Bench, config: &CommunicatorConfig) -> Result<Arc<dyn Communicator>, Error> {
    config.connect(bench.context(), &Target::default()).await
}

async fn refused(bench: &Bench, config: &CommunicatorConfig) -> Error {
    match enter(bench, config).await {
        Err(error) => error,
        Ok(_) => panic!("let in"),
    }
}

fn seconds(seconds: i64) -> GoDuration {
    GoDuration::from_secs(seconds)
}

/// The causes that were told while waiting, in order.
fn causes(bench: &Bench) -> Vec<String> {
    let mut causes: Vec<(u64, String)> = Vec::new();
    for event in bench.recorder().events() {
        if let EventKind::Progress { id, title, .. } = event.kind
            && causes.iter().all(|(known, _)| *known != id)
        {
            causes.push((id, title.trim_start_matches("Waiting for SSH: ").to_owned()));
        }
    }
    causes.into_iter().map(|(_, cause)| cause).collect()
}

/// What stands before a real SSH server, on a port of its own.
#[derive(Clone, Copy)]
enum Manner {
    /// Accepts and says nothing.
    Silent,
    /// Hands on so much of what the server says, and then nothing more.
    StopsAfter(usize),
    /// Accepts, says this, and nothing more.
    Says(&'static [u8]),
}

struct Forwarder {
    port: u16,
    accepted: Arc<AtomicUsize>,
    open: Arc<AtomicUsize>,
    most: Arc<AtomicUsize>,
}

impl Forwarder {
    /// Treats the first `bad` connections so, and passes the later ones on to a port.
    async fn start(to: u16, bad: usize, manner: Manner) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let counter = Arc::<AtomicUsize>::default;
        let forwarder = Self {
            port: listener.local_addr().unwrap().port(),
            accepted: counter(),
            open: counter(),
            most: counter(),
        };
        let (accepted, open, most) =
            (forwarder.accepted.clone(), forwarder.open.clone(), forwarder.most.clone());
        tokio::spawn(async move {
            loop {
                let (near, _) = listener.accept().await.unwrap();
                let manner = (accepted.fetch_add(1, Ordering::SeqCst) < bad).then_some(manner);
                most.fetch_max(open.fetch_add(1, Ordering::SeqCst) + 1, Ordering::SeqCst);
                let open = open.clone();
                tokio::spawn(async move {
                    Self::serve(near, to, manner).await;
                    open.fetch_sub(1, Ordering::SeqCst);
                });
            }
        });
        forwarder
    }

    async fn serve(mut near: TcpStream, to: u16, manner: Option<Manner>) {
        let until_closed = async |near: &mut TcpStream| {
            let _ = tokio::io::copy(near, &mut tokio::io::sink()).await;
        };
        match manner {
            None => {
                let mut far = TcpStream::connect(("127.0.0.1", to)).await.unwrap();
                let _ = tokio::io::copy_bidirectional(&mut near, &mut far).await;
            }
            Some(Manner::Silent) => until_closed(&mut near).await,
            Some(Manner::Says(text)) => {
                near.write_all(text).await.unwrap();
                until_closed(&mut near).await;
            }
            Some(Manner::StopsAfter(most)) => {
                let far = TcpStream::connect(("127.0.0.1", to)).await.unwrap();
                let (read, mut write) = near.split();
                let (mut from, mut send) = far.into_split();
                let mut read = read;
                let back = async {
                    let mut part = vec![0; most];
                    from.read_exact(&mut part).await.unwrap();
                    write.write_all(&part).await.unwrap();
                    std::future::pending::<()>().await;
                };
                tokio::select! {
                    _ = tokio::io::copy(&mut read, &mut send) => {}
                    () = back => {}
                }
            }
        }
    }

    fn config(&self, server: &Sshd) -> CommunicatorConfig {
        server.config().port(self.port)
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn the_cause_is_told_once_and_in_the_error() {
    let Some(server) = Sshd::start() else { return };
    let free = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
    let silent = Forwarder::start(0, usize::MAX, Manner::Silent).await.port;
    let mail = Forwarder::start(0, usize::MAX, Manner::Says(b"220 mail\x1b[2J here\r\n")).await.port;
    let stops = Forwarder::start(server.port(), usize::MAX, Manner::StopsAfter(60)).await.port;
    let mut stranger = server.config();
    stranger.ssh_private_key_file = Some(server.file("host").display().to_string());
    let at = |port: u16| server.config().port(port);
    let cases = [
        (at(free), format!("dial 127.0.0.1:{free}: connection refused")),
        (server.config().host("no.such.host.invalid"), "the name cannot be looked up: ".to_owned()),
        (at(silent), format!("127.0.0.1:{silent}: connected, but no SSH banner came")),
        (
            at(mail),
            format!(
                "127.0.0.1:{mail}: connected, but this is no SSH server: it said \"220 mail\\u{{1b}}[2J here\""
            ),
        ),
        (at(stops), format!("127.0.0.1:{stops}: an SSH server, but the exchange of keys did not end")),
        (stranger, "on 127.0.0.1 was refused (tried key ".to_owned()),
    ];
    let waits = cases.map(|(mut config, cause)| async move {
        // Time enough for a second try.
        config.ssh_timeout = seconds(6);
        let bench = Bench::new();
        let error = refused(&bench, &config).await.to_string();
        assert!(error.starts_with("Timeout waiting for SSH. The last attempt: "), "{error}");
        assert!(error.contains(&cause), "{error} has {cause}");
        assert_eq!(bench.recorder().lines().last(), Some(&error));
        let told = causes(&bench);
        assert!(told.len() == 1 && error.ends_with(&told[0]), "{told:?}");
    });
    futures_join(waits).await;
}

/// Runs all at once.
async fn futures_join<F: Future<Output = ()>>(works: impl IntoIterator<Item = F>) {
    let mut works: Vec<_> = works.into_iter().map(Box::pin).collect();
    std::future::poll_fn(|cx| {
        works.retain_mut(|work| work.as_mut().poll(cx).is_pending());
        if works.is_empty() { std::task::Poll::Ready(()) } else { std::task::Poll::Pending }
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_timeout_before_anything_is_known_says_what_it_waited_for() {
    let Some(server) = Sshd::start() else { return };
    let silent = Forwarder::start(0, usize::MAX, Manner::Silent).await;
    let mut config = silent.config(&server);
    config.ssh_timeout = seconds(1);
    let error = refused(&Bench::new(), &config).await.to_string();
    let cause = format!("127.0.0.1:{}: connected, but no SSH banner came", silent.port);
    assert_eq!(error, format!("Timeout waiting for SSH. The last attempt: {cause}"));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_cause_that_changes_is_told_anew() {
    let Some(mut server) = Sshd::prepare(&["Subsystem sftp internal-sftp"]) else { return };
    let mut config = server.config();
    config.ssh_private_key_file = Some(server.file("host").display().to_string());
    config.ssh_timeout = seconds(5);
    let bench = Bench::new();
    let waiting = tokio::spawn({
        let (cx, config) = (bench.context().clone(), config.clone());
        async move { config.connect(&cx, &Target::default()).await.map(drop) }
    });
    tokio::time::sleep(Duration::from_millis(1500)).await;
    server.up();
    let error = waiting.await.unwrap().unwrap_err().to_string();
    let told = causes(&bench);
    assert_eq!(told.len(), 2, "{told:?}");
    assert!(told[0].contains("connection refused") && error.ends_with(&told[1]), "{told:?}");
    assert!(told[1].contains("was refused (tried key "), "{told:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_silent_first_connection_is_waited_for_some_seconds_only() {
    let Some(server) = Sshd::start() else { return };
    // The banner alone, and the banner with a part of what follows.
    for manner in [Manner::Silent, Manner::StopsAfter(8), Manner::StopsAfter(100)] {
        let forwarder = Forwarder::start(server.port(), 1, manner).await;
        let mut config = forwarder.config(&server);
        config.ssh_timeout = seconds(100);
        let (bench, began) = (Bench::new(), Instant::now());
        let machine = enter(&bench, &config).await.unwrap();
        assert!(began.elapsed() < Duration::from_secs(8), "it took {:?}", began.elapsed());
        assert_eq!(machine.output(bench.context(), "echo in").await.unwrap().text(), "in");
        assert_eq!(forwarder.accepted.load(Ordering::SeqCst), 2);
        assert_eq!(soon(&forwarder.open, 1).await, 1, "the silent one is closed");
    }
}

/// Waits until a number is this; what it is in the end.
async fn soon(number: &AtomicUsize, expected: usize) -> usize {
    for _ in 0..100 {
        if number.load(Ordering::SeqCst) == expected {
            break;
        }
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    number.load(Ordering::SeqCst)
}

#[tokio::test(flavor = "multi_thread")]
async fn a_slow_server_may_answer_on_the_first_connection() {
    let Some(server) = Sshd::start() else { return };
    // Every later one stays silent, as with a server that serves one after the other.
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let port = listener.local_addr().unwrap().port();
    let to = server.port();
    tokio::spawn(async move {
        let (mut near, _) = listener.accept().await.unwrap();
        tokio::spawn(async move {
            let mut others = Vec::new();
            loop {
                others.push(listener.accept().await.unwrap());
            }
        });
        tokio::time::sleep(Duration::from_secs(13)).await;
        let mut far = TcpStream::connect(("127.0.0.1", to)).await.unwrap();
        let _ = tokio::io::copy_bidirectional(&mut near, &mut far).await;
    });
    let bench = Bench::new();
    let mut config = server.config().port(port);
    config.ssh_timeout = seconds(40);
    let began = Instant::now();
    let machine = enter(&bench, &config).await.unwrap();
    assert!(began.elapsed() < Duration::from_secs(20), "it took {:?}", began.elapsed());
    assert_eq!(machine.output(bench.context(), "echo in").await.unwrap().text(), "in");
}

#[tokio::test(flavor = "multi_thread")]
async fn few_are_open_at_once_and_none_stays_open() {
    let Some(server) = Sshd::start() else { return };
    let forwarder = Forwarder::start(server.port(), usize::MAX, Manner::Silent).await;
    let mut config = forwarder.config(&server);
    config.ssh_timeout = seconds(18);
    refused(&Bench::new(), &config).await;
    assert!(forwarder.accepted.load(Ordering::SeqCst) >= 4, "the later ones make room for others");
    // What is closed here may be counted a moment later there.
    assert!(forwarder.most.load(Ordering::SeqCst) <= 4);
    assert_eq!(soon(&forwarder.open, 0).await, 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_machine_that_comes_back_behind_a_silent_connection_is_entered_again() {
    let Some(mut server) = Sshd::start() else { return };
    let bench = Bench::new();
    let machine = enter(&bench, &server.config()).await.unwrap();
    let port = server.port();
    server.down();
    // The port is another's for a while, who keeps the first connection and says nothing.
    let listener = TcpListener::bind(("127.0.0.1", port)).await.unwrap();
    let (closed, again) = tokio::sync::oneshot::channel();
    let keeping = tokio::spawn(async move {
        let kept = listener.accept().await.unwrap();
        drop(listener);
        closed.send(()).unwrap();
        tokio::time::sleep(Duration::from_secs(30)).await;
        drop(kept);
    });
    let coming_back = async {
        again.await.unwrap();
        server.up();
    };
    let began = Instant::now();
    let (output, ()) = tokio::join!(machine.output(bench.context(), "echo again"), coming_back);
    assert_eq!(output.unwrap().text(), "again");
    assert!(began.elapsed() < Duration::from_secs(10), "it took {:?}", began.elapsed());
    keeping.abort();
}
