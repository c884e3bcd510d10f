//! Waiting for SSH: what keeps a machine from being entered is told, and a connection that stays silent keeps nobody.
#![cfg(all(unix, feature = "ssh", feature = "testing"))]
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::print_stdout,
    reason = "tests stop at the first surprise"
)]

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use packer_core::communicator::Unreachable;
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
    /// Accepts and closes.
    HangsUp,
}

struct Forwarder {
    port: u16,
    /// How many of the first connections are treated badly.
    bad: Arc<AtomicUsize>,
    accepted: Arc<AtomicUsize>,
    open: Arc<AtomicUsize>,
    most: Arc<AtomicUsize>,
}

impl Forwarder {
    /// Treats the first `bad` connections so, and passes the later ones on to a port.
    async fn start(to: u16, bad: usize, bad_manner: Manner) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        Self::on(listener, to, bad, bad_manner)
    }

    fn on(listener: TcpListener, to: u16, bad: usize, bad_manner: Manner) -> Self {
        let counter = Arc::<AtomicUsize>::default;
        let forwarder = Self {
            port: listener.local_addr().unwrap().port(),
            bad: Arc::new(AtomicUsize::new(bad)),
            accepted: counter(),
            open: counter(),
            most: counter(),
        };
        let (accepted, open, most) =
            (forwarder.accepted.clone(), forwarder.open.clone(), forwarder.most.clone());
        let bad = forwarder.bad.clone();
        tokio::spawn(async move {
            loop {
                let (near, _) = listener.accept().await.unwrap();
                let manner = accepted.fetch_add(1, Ordering::SeqCst) < bad.load(Ordering::SeqCst);
                let manner = manner.then_some(bad_manner);
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
            Some(Manner::HangsUp) => {}
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

/// A wrong machine, and what is to be said of it: as data, and in these words.
type Case = (CommunicatorConfig, Unreachable, String);

/// Waits for each of the machines, all at once.
async fn each_is_told(cases: Vec<Case>) {
    let waits = cases.into_iter().map(|(mut config, why, cause)| async move {
        // Time enough for a second try.
        config.ssh_timeout = seconds(6);
        let bench = Bench::new();
        let error = refused(&bench, &config).await;
        let text = error.to_string();
        assert!(text.starts_with("Timeout waiting for SSH. The last attempt: "), "{text}");
        assert!(text.contains(&cause), "{text} has {cause}");
        assert!(text.ends_with(why.advice()), "{text}");
        assert_eq!((error.why_unreachable(), error.fault()), (Some(why), why.fault()), "{text}");
        assert_eq!(bench.recorder().lines().last(), Some(&text));
        let told = causes(&bench);
        assert!(told.len() == 1 && text.contains(&told[0]), "{told:?}");
    });
    futures_join(waits).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn the_cause_is_told_once_and_in_the_error() {
    let Some(server) = Sshd::start() else { return };
    let free = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
    let silent = Forwarder::start(0, usize::MAX, Manner::Silent).await.port;
    let mail = Forwarder::start(0, usize::MAX, Manner::Says(b"220 mail\x1b[2J here\r\n")).await.port;
    let closes = Forwarder::start(0, usize::MAX, Manner::HangsUp).await.port;
    let stops = Forwarder::start(server.port(), usize::MAX, Manner::StopsAfter(60)).await.port;
    let mut stranger = server.config();
    stranger.ssh_private_key_file = Some(server.file("host").display().to_string());
    let at = |port: u16| server.config().port(port);
    let mail_said = format!(
        "127.0.0.1:{mail}: connected, but this is no SSH server: it said \"220 mail\\u{{1b}}[2J here\""
    );
    let cases = vec![
        (at(free), Unreachable::Refused, format!("dial 127.0.0.1:{free}: connection refused")),
        (
            server.config().host("no.such.host.invalid"),
            Unreachable::UnknownHost,
            "the name cannot be looked up: ".to_owned(),
        ),
        // No TCP goes to everybody.
        (server.config().host("255.255.255.255"), Unreachable::NoRoute, "dial 255.255.255.255:".to_owned()),
        (at(silent), Unreachable::Silent, format!("127.0.0.1:{silent}: connected, but no SSH banner came")),
        (at(closes), Unreachable::Closed, format!("127.0.0.1:{closes}: connected, but no SSH banner came: ")),
        (at(mail), Unreachable::OtherProtocol, mail_said),
        (
            at(stops),
            Unreachable::Silent,
            format!("127.0.0.1:{stops}: an SSH server, but the exchange of keys did not end"),
        ),
        (stranger, Unreachable::LoginRefused, "on 127.0.0.1 was refused (tried key ".to_owned()),
    ];
    each_is_told(cases).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_a_server_has_against_us_is_told() {
    let Some(few_tries) = Sshd::with(&["MaxAuthTries 1"]) else { return };
    let Some(other) = Sshd::with(&["KexAlgorithms curve25519-sha256"]) else { return };
    let Some(mut full) = Sshd::prepare(&[]) else { return };
    let options = std::fs::read_to_string(full.file("config")).unwrap();
    let options = options.replace("MaxStartups 500:30:1000", "MaxStartups 1");
    std::fs::write(full.file("config"), options).unwrap();
    full.up();
    let mut wrong = few_tries.config();
    wrong.ssh_private_key_file = Some(few_tries.file("host").display().to_string());
    let mut old = other.config();
    old.ssh_key_exchange_algorithms = vec!["ecdh-sha2-nistp256".into()];
    // It has room for one that is not logged in, once it has forgotten whoever asked whether it is up.
    let mut first;
    loop {
        first = TcpStream::connect(("127.0.0.1", full.port())).await.unwrap();
        if first.read_u8().await.unwrap() == b'S' {
            break;
        }
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    let cases = vec![
        (wrong, Unreachable::TooManyAttempts, "the server closed the connection after key ".to_owned()),
        (old, Unreachable::NoCommonAlgorithm, "no common method of exchanging keys".to_owned()),
        (full.config(), Unreachable::TooManyAttempts, "takes no further connection: it said ".to_owned()),
    ];
    each_is_told(cases).await;
    let mut stranger = other.config();
    stranger.ssh_host_key = Some(full.host_key());
    let error = refused(&Bench::new(), &stranger).await;
    assert_eq!(error.why_unreachable(), Some(Unreachable::HostKey), "{error}");
    assert!(error.message().contains("is not the expected one (that in ssh_host_key"), "{error}");
}

/// How long it takes to be let in, as the median of some times; and how much longer when the machine came up meanwhile.
struct Times {
    usual: Duration,
    late: Duration,
}

fn median(times: &mut [Duration]) -> Duration {
    times.sort_unstable();
    times[times.len() / 2]
}

/// A number below 300 that differs from time to time.
fn some_milliseconds() -> Duration {
    let nanos = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap().subsec_nanos();
    Duration::from_millis(u64::from(nanos / 1000 % 300))
}

/// Measures until a machine that comes up is entered fast enough, at most three times: others use this computer too.
async fn is_fast<W: Future<Output = Times>>(what: &str, mut measure: impl FnMut() -> W) {
    let mut all = Vec::new();
    for _ in 0..3 {
        let Times { usual, late } = measure().await;
        println!("{what}: {late:?} after it came up, usually {usual:?}");
        if late < usual + Duration::from_millis(100) {
            return;
        }
        all.push((late, usual));
    }
    panic!("{what}: {all:?}");
}

const ROUNDS: usize = 20;

#[tokio::test(flavor = "multi_thread")]
async fn a_machine_whose_port_was_refused_is_entered_at_once() {
    let Some(server) = Sshd::prepare(&[]) else { return };
    let server = Arc::new(std::sync::Mutex::new(server));
    let config = server.lock().unwrap().config();
    let measure = async || {
        let (mut usual, mut late) = (Vec::new(), Vec::new());
        for _ in 0..ROUNDS {
            server.lock().unwrap().down();
            let entering = tokio::spawn({
                let config = config.clone();
                async move {
                    let machine = enter(&Bench::new(), &config).await.unwrap();
                    (machine, Instant::now())
                }
            });
            tokio::time::sleep(Duration::from_millis(150) + some_milliseconds()).await;
            let port = config.ssh_port.unwrap();
            let opened = tokio::task::spawn_blocking(move || {
                while std::net::TcpStream::connect(("127.0.0.1", port)).is_err() {
                    std::thread::sleep(Duration::from_millis(2));
                }
                Instant::now()
            });
            let up = tokio::task::spawn_blocking({
                let server = server.clone();
                move || server.lock().unwrap().up()
            });
            let (opened, entered) = (opened.await.unwrap(), entering.await.unwrap().1);
            up.await.unwrap();
            late.push(entered.saturating_duration_since(opened));
            let began = Instant::now();
            enter(&Bench::new(), &config).await.unwrap();
            usual.push(began.elapsed());
        }
        Times { usual: median(&mut usual), late: median(&mut late) }
    };
    is_fast("refused", measure).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_machine_behind_a_port_that_was_silent_or_hung_up_is_entered_at_once() {
    let Some(server) = Sshd::start() else { return };
    for manner in [Manner::Silent, Manner::HangsUp] {
        let measure = async || {
            let (mut usual, mut late) = (Vec::new(), Vec::new());
            for _ in 0..ROUNDS {
                let forwarder = Forwarder::start(server.port(), usize::MAX, manner).await;
                let config = forwarder.config(&server);
                let entering = tokio::spawn({
                    let config = config.clone();
                    async move {
                        let machine = enter(&Bench::new(), &config).await.unwrap();
                        (machine, Instant::now())
                    }
                });
                tokio::time::sleep(Duration::from_millis(150) + some_milliseconds()).await;
                // Who has come before stays without an answer.
                let opened = Instant::now();
                forwarder.bad.store(0, Ordering::SeqCst);
                let (machine, entered) = entering.await.unwrap();
                late.push(entered - opened);
                assert_eq!(soon(&forwarder.open, 1).await, 1, "the others are closed");
                drop(machine);
                let began = Instant::now();
                drop(enter(&Bench::new(), &config).await.unwrap());
                usual.push(began.elapsed());
                assert_eq!(soon(&forwarder.open, 0).await, 0);
            }
            Times { usual: median(&mut usual), late: median(&mut late) }
        };
        let what = if matches!(manner, Manner::Silent) { "silent" } else { "hung up" };
        is_fast(what, measure).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_machine_that_swallowed_what_came_is_entered_at_once() {
    let Some(server) = Sshd::start() else { return };
    let measure = async || {
        let (mut usual, mut late) = (Vec::new(), Vec::new());
        for _ in 0..ROUNDS {
            // While nobody takes the connections that wait, the system drops what comes.
            let socket = tokio::net::TcpSocket::new_v4().unwrap();
            socket.bind("127.0.0.1:0".parse().unwrap()).unwrap();
            let listener = socket.listen(0).unwrap();
            let address = listener.local_addr().unwrap();
            let mut waiting = Vec::new();
            let soon = Duration::from_millis(100);
            while let Ok(stream) = tokio::time::timeout(soon, TcpStream::connect(address)).await {
                waiting.push(stream.unwrap());
            }
            let config = server.config().port(address.port());
            let entering = tokio::spawn({
                let config = config.clone();
                async move {
                    let machine = enter(&Bench::new(), &config).await.unwrap();
                    (machine, Instant::now())
                }
            });
            tokio::time::sleep(Duration::from_millis(150) + some_milliseconds()).await;
            drop(waiting);
            let opened = Instant::now();
            let _forwarder = Forwarder::on(listener, server.port(), 0, Manner::Silent);
            late.push(entering.await.unwrap().1 - opened);
            let began = Instant::now();
            drop(enter(&Bench::new(), &config).await.unwrap());
            usual.push(began.elapsed());
        }
        Times { usual: median(&mut usual), late: median(&mut late) }
    };
    is_fast("swallowed", measure).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_machine_is_not_hammered() {
    let Some(server) = Sshd::start() else { return };
    let mut stranger = server.config();
    stranger.ssh_private_key_file = Some(server.file("host").display().to_string());
    let cases = [
        (Manner::Silent, 70),
        (Manner::HangsUp, 70),
        // What an SSH server said, or what is none, is asked anew after some seconds.
        (Manner::StopsAfter(60), 3),
        (Manner::Says(b"220 mail\r\n"), 3),
    ];
    let works = cases.map(|(manner, most)| {
        let server = &server;
        async move {
            let forwarder = Forwarder::start(server.port(), usize::MAX, manner).await;
            let mut config = forwarder.config(server);
            config.ssh_timeout = seconds(5);
            refused(&Bench::new(), &config).await;
            let tries = forwarder.accepted.load(Ordering::SeqCst);
            assert!((1..=most).contains(&tries), "{tries} tries");
            assert_eq!(soon(&forwarder.open, 0).await, 0);
        }
    });
    futures_join(works).await;
    let forwarder = Forwarder::start(server.port(), 0, Manner::Silent).await;
    (stranger.ssh_port, stranger.ssh_timeout) = (Some(forwarder.port), seconds(5));
    let error = refused(&Bench::new(), &stranger).await;
    assert_eq!(error.why_unreachable(), Some(Unreachable::LoginRefused));
    assert_eq!(forwarder.accepted.load(Ordering::SeqCst), 1, "refused logins are not repeated at once");
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
    let advice = Unreachable::Silent.advice();
    assert_eq!(error, format!("Timeout waiting for SSH. The last attempt: {cause}. {advice}"));
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
    assert!(told[0].contains("connection refused") && error.contains(&told[1]), "{told:?}");
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
        let tries = forwarder.accepted.load(Ordering::SeqCst);
        // On a computer that is busy a banner takes its time too.
        assert!(tries == 2 || matches!(manner, Manner::Silent) && tries > 2, "{tries} tries");
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
    config.ssh_timeout = seconds(4);
    refused(&Bench::new(), &config).await;
    assert!(forwarder.accepted.load(Ordering::SeqCst) > 7, "most make room for others");
    // What is closed here may be counted a moment later there.
    assert!(forwarder.most.load(Ordering::SeqCst) <= 7);
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
