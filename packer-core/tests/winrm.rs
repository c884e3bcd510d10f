//! The WinRM communicator against a server that speaks the protocol: commands, files, waiting, and servers that are broken.
#![cfg(all(feature = "winrm", feature = "testing"))]
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    reason = "tests stop at the first surprise"
)]

use std::io::Cursor;
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use packer_core::communicator::Globs;
use packer_core::testing::winrm::{Manner, PASSWORD, Reply, WinRmServer};
use packer_core::testing::{Bench, TempFolder, communicator};
use packer_core::{
    Command, Communicator, CommunicatorConfig, CommunicatorExt, Error, ExitStatus, Fault, GoDuration, Host,
    Source, Target,
};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};

/// A machine whose commands are few.
fn commands(text: &str, stdin: &[u8]) -> Reply {
    match text.split_once(' ').unwrap_or((text, "")) {
        ("exit", code) => Reply::code(code.parse().unwrap()),
        ("cat", _) => Reply::prints(stdin),
        ("both", _) => Reply { stderr: b"err\r\n".to_vec(), ..Reply::prints("out\r\n") },
        ("large", size) => Reply::prints(vec![b'x'; size.parse().unwrap()]),
        ("forever", _) => Reply::forever(),
        ("break", _) => Reply::hangs_up(),
        _ => Reply::fails("not recognized\r\n", 1),
    }
}

async fn enter(bench: &Bench, config: &CommunicatorConfig) -> Result<Arc<dyn Communicator>, Error> {
    config.connect(bench.context(), &Target::default()).await
}

/// A server, and the way into it.
async fn machine(bench: &Bench) -> (WinRmServer, Arc<dyn Communicator>) {
    let server = WinRmServer::start(commands).await;
    let communicator = enter(bench, &server.config()).await.unwrap();
    (server, communicator)
}

async fn until(what: &str, there: impl Fn() -> bool) {
    let end = Instant::now() + Duration::from_secs(10);
    while !there() {
        assert!(Instant::now() < end, "{what} did not come about");
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn it_keeps_the_rules_of_communicators() {
    let bench = Bench::new();
    let server = WinRmServer::with_cmd().await;
    let machine = enter(&bench, &server.config()).await.unwrap();
    communicator::windows_suite(machine.as_ref(), bench.context()).await;
    until("the end of all commands", || server.shells() == 0 && server.running() == 0).await;
    assert_eq!(server.files().into_keys().collect::<Vec<_>>(), [""; 0]);
}

#[tokio::test(flavor = "multi_thread")]
async fn commands_have_streams_and_exit_codes_and_leave_no_shell() {
    let bench = Bench::new();
    let (server, machine) = machine(&bench).await;
    let cx = bench.context();
    for code in [0, 1, 7, 255, 3010, -1, -1_073_741_510] {
        let output = machine.output(cx, &format!("exit {code}")).await.unwrap();
        assert_eq!(output.status, ExitStatus::Code(code));
    }
    let output = machine.output(cx, "both").await.unwrap();
    assert_eq!((output.stdout.as_slice(), output.stderr.as_slice()), (&b"out\r\n"[..], &b"err\r\n"[..]));
    let output = machine.output(cx, "large 3000000").await.unwrap();
    assert_eq!(output.stdout.len(), 3_000_000);
    for size in [0, 1, 100, 1_000_000] {
        let sent: Vec<u8> = (0..=255).cycle().take(size).collect();
        let (mut input, mut came) = (Cursor::new(sent.clone()), Vec::new());
        let status = machine.exec(cx, Command::new("cat").stdin(&mut input).stdout(&mut came)).await.unwrap();
        assert!(status.success() && came == sent, "{size} bytes pass through");
    }
    assert_eq!(machine.output(cx, "cat").await.unwrap().stdout, b"", "without input its end is read at once");
    let (one, two) = tokio::join!(machine.output(cx, "large 100000"), machine.output(cx, "exit 3"));
    assert_eq!((one.unwrap().stdout.len(), two.unwrap().status.code()), (100_000, 3));
    let error = machine.output(cx, "echo \u{1b}[1m").await.unwrap_err();
    assert!(error.message().contains("control character"), "{error}");
    assert_eq!((server.shells(), server.running()), (0, 0));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_command_that_nobody_waits_for_is_ended() {
    let bench = Bench::new();
    let (server, machine) = machine(&bench).await;
    let late = tokio::time::timeout(Duration::from_secs(1), machine.output(bench.context(), "forever")).await;
    assert!(late.is_err());
    until("the end of the command", || server.running() == 0 && server.shells() == 0).await;

    let work = machine.output(bench.context(), "forever");
    let stop = async {
        until("the command", || server.running() == 1).await;
        bench.cancel();
    };
    let (done, ()) = tokio::join!(work, stop);
    assert!(done.unwrap_err().is_cancelled());
    assert_eq!((server.running(), server.shells()), (0, 0), "it has ended when that is told");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_connection_that_breaks_is_an_exit_status() {
    let bench = Bench::new();
    let (_server, machine) = machine(&bench).await;
    let output = machine.output(bench.context(), "break").await.unwrap();
    assert_eq!(output.status, ExitStatus::Disconnected);
    assert!(
        machine.output(bench.context(), "exit 0").await.unwrap().status.success(),
        "and the next one goes"
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn files_go_there_and_come_back() {
    let bench = Bench::new();
    let (server, machine) = machine(&bench).await;
    let cx = bench.context();
    for size in [0, 1, 5119, 5120, 5121, 84_000, 85_000, 300_000] {
        let content: Vec<u8> = (0..=255_u8).cycle().skip(size % 7).take(size).collect();
        machine.upload_bytes(cx, &content, "C:/My Files/Übung/x.bin").await.unwrap();
        assert_eq!(server.files()["c:/my files/übung/x.bin"], content, "{size} bytes arrive");
        assert!(machine.read(cx, r"C:\My Files\Übung\x.bin").await.unwrap() == content, "{size} come back");
        let mut reader = Cursor::new(content.clone());
        machine.upload(cx, Source::reader(&mut reader), "c:/stream").await.unwrap();
        assert_eq!(server.files()["c:/stream"], content);
    }
    let folder = TempFolder::new();
    let local = folder.path().join("a.txt");
    std::fs::write(&local, "one").unwrap();
    machine.upload_file(cx, &local, "C:/Temp/").await.unwrap();
    machine.upload_file(cx, &local, r"C:\Temp2\").await.unwrap();
    assert_eq!((server.files()["c:/temp/a.txt"].len(), server.files()["c:/temp2/a.txt"].len()), (3, 3));
    let error = machine.upload_bytes(cx, b"x", "C:/Temp/").await.unwrap_err();
    assert_eq!(error.message(), "Was unable to infer file basename for upload.");
    server.put("c:/folder/", "");
    for content in [&b"small"[..], &[7; 20_000]] {
        let error = machine.upload_bytes(cx, content, "C:/folder").await.unwrap_err();
        assert!(error.message().starts_with("Error restoring file from $env:TEMP\\winrmcp-"), "{error}");
        assert!(
            error
                .message()
                .ends_with(" to C:\\folder: restore operation returned code=1: the destination is a folder")
        );
    }
    let error = machine.read(cx, "C:/nothing").await.unwrap_err();
    assert_eq!(error.message(), "C:/nothing: Could not find the file. (exit code 1)");
    for path in ["", "C:/a\nb"] {
        assert_eq!(machine.read(cx, path).await.unwrap_err().fault(), Fault::User);
    }
    assert_eq!((server.shells(), server.running()), (0, 0));
}

#[tokio::test(flavor = "multi_thread")]
async fn folders_go_with_few_files_and_with_many() {
    let bench = Bench::new();
    let (server, machine) = machine(&bench).await;
    let folder = TempFolder::new();
    let root = folder.path().join("d");
    std::fs::create_dir_all(root.join("sub/deep")).unwrap();
    let write = |name: &str, content: &[u8]| std::fs::write(root.join(name), content).unwrap();
    write("a.txt", b"a");
    write("sub/deep/b c.txt", b"b");
    write(".DS_Store", b"finder");
    machine.upload_dir(bench.context(), &root, "C:/x/", &Globs::none()).await.unwrap();
    let names = |server: &WinRmServer| server.files().into_keys().collect::<Vec<_>>();
    assert_eq!(names(&server), ["c:/x/d/a.txt", "c:/x/d/sub/deep/b c.txt"]);

    for n in 0..200 {
        write(&format!("sub/f{n}"), &vec![1; n * 37]);
    }
    write("sub/large", &[2; 250_000]);
    write("sub/empty", b"");
    let before = server.requests();
    let contents = folder.path().join("d/");
    machine.upload_dir(bench.context(), &contents, "C:/y", &Globs::new(["*.txt"]).unwrap()).await.unwrap();
    let files = server.files();
    let copied = files.keys().filter(|name| name.starts_with("c:/y/") && !name.ends_with('/'));
    assert_eq!(copied.count(), 202);
    assert!(files.contains_key("c:/y/sub/deep/"), "a folder that is empty here is made");
    assert_eq!((files["c:/y/sub/f199"].len(), files["c:/y/sub/large"].len()), (199 * 37, 250_000));
    assert_eq!(files["c:/y/sub/empty"], b"");
    let took = server.requests() - before;
    assert!(took < 30, "{took} requests");

    let down = folder.path().join("down");
    let cx = bench.context();
    machine.download_dir(cx, "C:/y/sub/f*", &down.join("matching"), &Globs::none()).await.unwrap();
    assert_eq!(std::fs::read_dir(down.join("matching")).unwrap().count(), 200);
    machine.download_dir(cx, "C:/y/", &down.join("within"), &Globs::new(["sub/f1*"]).unwrap()).await.unwrap();
    assert_eq!(std::fs::read_dir(down.join("within/sub")).unwrap().count(), 203 - 111);
    assert_eq!(std::fs::read(down.join("within/sub/f99")).unwrap().len(), 99 * 37);
    let error = machine.download_dir(bench.context(), "C:/none", &down, &Globs::none()).await.unwrap_err();
    assert_eq!(error.message(), "C:/none: nothing matches (exit code 1)");
}

/// Counts, and keeps nothing.
struct Count(u64);

impl tokio::io::AsyncWrite for Count {
    fn poll_write(
        mut self: std::pin::Pin<&mut Self>,
        _: &mut std::task::Context<'_>,
        bytes: &[u8],
    ) -> std::task::Poll<std::io::Result<usize>> {
        self.0 += bytes.len() as u64;
        std::task::Poll::Ready(Ok(bytes.len()))
    }

    fn poll_flush(
        self: std::pin::Pin<&mut Self>,
        _: &mut std::task::Context<'_>,
    ) -> std::task::Poll<std::io::Result<()>> {
        std::task::Poll::Ready(Ok(()))
    }

    fn poll_shutdown(
        self: std::pin::Pin<&mut Self>,
        _: &mut std::task::Context<'_>,
    ) -> std::task::Poll<std::io::Result<()>> {
        std::task::Poll::Ready(Ok(()))
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_large_file_takes_a_request_for_every_83_kilobytes() {
    const SIZE: u64 = 20 << 20;
    let bench = Bench::new();
    let (server, machine) = machine(&bench).await;
    let before = server.requests();
    let mut reader = tokio::io::repeat(b'q').take(SIZE);
    machine.upload(bench.context(), Source::reader(&mut reader), "C:/large").await.unwrap();
    let took = u64::try_from(server.requests() - before).unwrap();
    assert!(took <= SIZE / 83_000 + 10, "{took} requests");
    let mut count = Count(0);
    machine.download(bench.context(), "C:/large", &mut count).await.unwrap();
    assert_eq!(count.0, SIZE);
}

fn seconds(config: CommunicatorConfig, seconds: i64) -> CommunicatorConfig {
    let mut config = config;
    config.winrm_timeout = GoDuration::from_secs(seconds);
    config
}

#[tokio::test(flavor = "multi_thread")]
async fn it_is_entered_as_soon_as_it_listens() {
    let bench = Bench::new();
    let port = TcpListener::bind("127.0.0.1:0").await.unwrap().local_addr().unwrap().port();
    let config = WinRmServer::start(commands).await.config().port(port);
    let opening = async {
        tokio::time::sleep(Duration::from_millis(700)).await;
        let listener = TcpListener::bind(("127.0.0.1", port)).await.unwrap();
        (WinRmServer::on(listener, commands), Instant::now())
    };
    let entering = async { (enter(&bench, &config).await.unwrap(), Instant::now()) };
    let ((_server, opened), (_, entered)) = tokio::join!(opening, entering);
    let late = entered.duration_since(opened);
    assert!(late < Duration::from_millis(500), "{late:?} later");
    let lines = bench.recorder().lines();
    let expected = [
        "Using WinRM communicator to connect: 127.0.0.1",
        "Waiting for WinRM to become available...",
        "WinRM connected.",
        "Connected to WinRM!",
    ];
    assert_eq!(lines, expected);
}

/// How long after a server came up its machine is entered, and how long that takes where it is up. Before, it behaves so;
/// `None`: nothing listens.
async fn waited(before: Option<Manner>, up_after: Duration) -> (Duration, Duration) {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let port = listener.local_addr().unwrap().port();
    let server = before.map(|manner| {
        let server = WinRmServer::on(listener, commands);
        server.behaves(manner);
        server
    });
    let config = CommunicatorConfig::winrm("Administrator", PASSWORD).host("127.0.0.1").port(port);
    let config = seconds(config, 30);
    let entering = tokio::spawn({
        let config = config.clone();
        async move { enter(&Bench::new(), &config).await.map(|_| Instant::now()) }
    });
    tokio::time::sleep(up_after).await;
    let _server = match server {
        Some(server) => {
            // Who has come before stays without an answer.
            server.behaves(Manner::Serves);
            server
        }
        None => WinRmServer::on(TcpListener::bind(("127.0.0.1", port)).await.unwrap(), commands),
    };
    let up = Instant::now();
    let late = entering.await.unwrap().unwrap() - up;
    let began = Instant::now();
    enter(&Bench::new(), &config).await.unwrap();
    (late, began.elapsed())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_port_that_was_closed_silent_or_hung_up_is_entered_at_once() {
    for before in [None, Some(Manner::Silent), Some(Manner::HangsUp)] {
        let mut measured = Vec::new();
        // Others use this computer too.
        for _ in 0..3 {
            let (mut usual, mut late) = (Vec::new(), Vec::new());
            for round in 0..20 {
                let rest = if before.is_none() { 700 } else { 100 };
                let round = waited(before, Duration::from_millis(150 + round * 37 % rest)).await;
                late.push(round.0);
                usual.push(round.1);
            }
            usual.sort_unstable();
            late.sort_unstable();
            println!("{before:?}: {:?} after it came up, usually {:?}", late[10], usual[10]);
            measured.push((late[10], usual[10]));
            if late[10] < usual[10] + Duration::from_millis(100) {
                break;
            }
        }
        let (late, usual) = measured.last().unwrap();
        assert!(*late < *usual + Duration::from_millis(100), "{before:?}: {measured:?}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn servers_that_are_broken_are_told_by_what_they_do() {
    use packer_core::communicator::Unreachable::{Closed, LoginRefused, OtherProtocol, Silent};
    let page = "HTTP/1.1 500 Internal Server Error\r\nContent-Type: text/html\r\nContent-Length: 15\r\n\r\n<h1>broken</h1>";
    let html = "HTTP/1.1 200 OK\r\nContent-Type: text/html\r\nContent-Length: 12\r\n\r\n<html></html";
    let endless = "HTTP/1.1 200 OK\r\nContent-Type: application/soap+xml\r\nContent-Length: 99999999\r\n\r\n<s:Envelope>";
    let other = "HTTP/1.1 200 OK\r\nContent-Type: application/soap+xml\r\nContent-Length: 6\r\n\r\n<a/>\r\n";
    let soap = |body: &str| {
        let head = "HTTP/1.1 200 OK\r\nContent-Type: application/soap+xml\r\nConnection: close\r\n\r\n";
        // As long as the test, which runs once.
        &*Box::leak(format!("{head}{body}").into_boxed_str())
    };
    let deep = soap(&format!("<s:Envelope>{}", "<a>".repeat(1_000_000)));
    let large = soap(&format!("<s:Envelope>{}", " ".repeat(17 << 20)));
    let garbage = soap("\u{1}\u{2}\u{3} <<<>>> &&& \u{fffd}");
    let entities =
        soap("<!DOCTYPE x [<!ENTITY a \"aaaa\"><!ENTITY b \"&a;&a;\">]><s:Envelope>&b;</s:Envelope>");
    let nameless = soap("<s:Envelope><s:Body/></s:Envelope>");
    let kerberos = "HTTP/1.1 401 Unauthorized\r\nWWW-Authenticate: Kerberos\r\nContent-Length: 0\r\n\r\n";
    let cases = [
        (
            Manner::Says(page),
            OtherProtocol,
            "answers with HTTP status 500 Internal Server Error, and not as a WinRM server does: <h1>broken</h1>",
        ),
        (
            Manner::Says(html),
            OtherProtocol,
            "answers with HTTP status 200 OK, and not as a WinRM server does",
        ),
        (Manner::Says(endless), Closed, "end of file before message length reached"),
        (Manner::Says(other), OtherProtocol, "the answer is not one of WinRM: it begins with <a>"),
        (Manner::Says("SSH-2.0-OpenSSH_9.2\r\n"), OtherProtocol, "127.0.0.1:"),
        (Manner::Says(kerberos), LoginRefused, "the server takes no Basic login: set winrm_use_ntlm = true"),
        (
            Manner::Says(deep),
            OtherProtocol,
            "could not make a shell: the answer is not one of WinRM: its elements are more than",
        ),
        (Manner::Says(large), OtherProtocol, "answers with more than 16 MiB"),
        (Manner::Says(garbage), OtherProtocol, "could not make a shell: the answer is not one of WinRM: "),
        (Manner::Says(entities), OtherProtocol, "it names something that XML does not know"),
        (Manner::Says(nameless), OtherProtocol, "the server gave the shell no name"),
        (Manner::Silent, Silent, "127.0.0.1:"),
        (Manner::Trickles, Silent, "127.0.0.1:"),
        (Manner::NothingNew, Silent, "answers, and has let nobody in yet"),
        (Manner::Mixes, OtherProtocol, "could not make a shell: what came answers another request"),
        (Manner::HangsUp, Closed, "127.0.0.1:"),
        (Manner::Half, Closed, "127.0.0.1:"),
    ];
    let mut all = tokio::task::JoinSet::new();
    for (manner, why, expected) in cases {
        all.spawn(async move {
            let bench = Bench::new();
            let server = WinRmServer::start(commands).await;
            server.behaves(manner);
            let begun = Instant::now();
            let error = enter(&bench, &seconds(server.config(), 2)).await.err().expect("it is not entered");
            let text = error.message();
            assert!(text.starts_with("Timeout waiting for WinRM. The last attempt: "), "{manner:?}: {error}");
            assert!(text.contains(expected), "{manner:?}: {error}");
            assert_eq!(error.why_unreachable(), Some(why), "{manner:?}: {error}");
            assert!(text.contains("127.0.0.1"), "{manner:?}: {error}");
            assert!(begun.elapsed() < Duration::from_secs(4), "{manner:?}");
            assert!(!format!("{error:?}").contains(PASSWORD));
        });
    }
    all.join_all().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_server_that_breaks_later_is_told_and_asked_no_faster() {
    let bench = Bench::new();
    let (server, machine) = machine(&bench).await;
    let cx = bench.context();
    let refused =
        "HTTP/1.1 401 Unauthorized\r\nWWW-Authenticate: Basic realm=\"x\"\r\nContent-Length: 0\r\n\r\n";
    let html = "HTTP/1.1 200 OK\r\nContent-Type: text/html\r\nContent-Length: 5\r\n\r\n<a>b\n";
    for (manner, expected) in [
        (Manner::Says(refused), "the user Administrator or the password is wrong"),
        (Manner::Says(html), "not as a WinRM server does"),
        (Manner::Mixes, "could not make a shell: what came answers another request"),
    ] {
        server.behaves(manner);
        let error = machine.output(cx, "exit 0").await.unwrap_err();
        let text = error.message();
        assert!(text.contains("127.0.0.1") && text.contains(expected), "{manner:?}: {error}");
        let error = machine.upload_bytes(cx, &[1; 100], "C:/x").await.unwrap_err();
        assert!(error.message().contains(expected), "{manner:?}: {error}");
    }
    server.behaves(Manner::NothingNew);
    let before = server.requests();
    let late = tokio::time::timeout(Duration::from_secs(1), machine.output(cx, "exit 0")).await;
    assert!(late.is_err());
    let asked = server.requests() - before;
    assert!(asked < 20, "{asked} requests in a second");
    server.behaves(Manner::Serves);
    assert_eq!(machine.output(cx, "exit 4").await.unwrap().status.code(), 4);
    until("the end of the command", || server.running() == 0).await;
}

/// A page may show how it was asked.
#[tokio::test(flavor = "multi_thread")]
async fn the_password_is_a_secret_also_as_a_request_has_it() {
    let bench = Bench::new();
    let login = base64::Engine::encode(
        &base64::engine::general_purpose::STANDARD,
        format!("{}:{PASSWORD}", packer_core::testing::winrm::USER),
    );
    let body = format!("{}{login} {PASSWORD}", " ".repeat(370));
    let page = format!("HTTP/1.1 403 Forbidden\r\nContent-Length: {}\r\n\r\n{body}", body.len());
    let server = WinRmServer::start(commands).await;
    server.behaves(Manner::Says(Box::leak(page.into_boxed_str())));
    let error = enter(&bench, &seconds(server.config(), 1)).await.err().unwrap();
    let shown = bench.context().secrets().scrub(error.message());
    let lines = bench.recorder().lines().join("\n");
    for text in [&*shown, &*lines, &format!("{:?}", server.config())] {
        assert!(!text.contains(&login[..8]) && !text.contains(&PASSWORD[..5]), "{text}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_wrong_password_and_a_proxy_that_is_not_there_are_told() {
    let server = WinRmServer::start(commands).await;
    let bench = Bench::new();
    let wrong = seconds(server.config(), 1).password("Wr0ng!");
    let error = enter(&bench, &wrong).await.err().unwrap();
    assert!(
        error.message().contains("the user Administrator or the password is wrong (HTTP status 401). Check "),
        "{error}"
    );
    let mut wrong = seconds(server.config(), 1);
    wrong.winrm_use_ntlm = Some(true);
    let error = enter(&bench, &wrong).await.err().unwrap();
    assert!(error.message().contains("the server takes no NTLM login: leave winrm_use_ntlm out"), "{error}");
    let mut tls = seconds(server.config(), 1);
    (tls.winrm_use_ssl, tls.winrm_insecure) = (true, true);
    let error = enter(&bench, &tls).await.err().unwrap();
    assert!(
        error.message().starts_with("Timeout waiting for WinRM. The last attempt: 127.0.0.1:"),
        "{error}"
    );
    assert_eq!(server.shells(), 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_machine_that_was_started_anew_is_entered_as_before() {
    let bench = Bench::new();
    let server = WinRmServer::start(commands).await;
    let config = server.config();
    let machine = enter(&bench, &config).await.unwrap();
    drop(server);
    // Its end may come between two requests.
    match machine.output(bench.context(), "exit 0").await {
        Ok(output) => assert_eq!(output.status, ExitStatus::Disconnected),
        Err(error) => assert_eq!(error.fault(), Fault::Network, "{error}"),
    }
    let listener = TcpListener::bind(("127.0.0.1", config.winrm_port.unwrap())).await.unwrap();
    let _server = WinRmServer::on(listener, commands);
    assert_eq!(machine.output(bench.context(), "exit 5").await.unwrap().status.code(), 5);
}

#[tokio::test(flavor = "multi_thread")]
async fn whoever_comes_after_a_broken_connection_finds_the_machine() {
    let bench = Bench::new();
    let (server, machine) = machine(&bench).await;
    let cut = async || {
        let before = server.requests();
        server.behaves(Manner::Says(""));
        until("another question", || server.requests() > before).await;
        server.behaves(Manner::Serves);
    };
    communicator::reconnects(machine.as_ref(), bench.context(), "forever", cut).await;
}

/// Takes secured connections with the certificate of `win.example` and hands on what is in them; its port.
async fn secured(to: u16) -> u16 {
    use tokio_rustls::TlsAcceptor;
    use tokio_rustls::rustls::ServerConfig;
    use tokio_rustls::rustls::crypto::aws_lc_rs;
    use tokio_rustls::rustls::pki_types::pem::PemObject;
    use tokio_rustls::rustls::pki_types::{CertificateDer, PrivateKeyDer};

    let certificate = CertificateDer::from_pem_slice(include_bytes!("certificates/win.pem")).unwrap();
    let key = PrivateKeyDer::from_pem_slice(include_bytes!("certificates/win.key")).unwrap();
    let config = ServerConfig::builder_with_provider(Arc::new(aws_lc_rs::default_provider()))
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_no_client_auth()
        .with_single_cert(vec![certificate], key)
        .unwrap();
    let acceptor = TlsAcceptor::from(Arc::new(config));
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let port = listener.local_addr().unwrap().port();
    tokio::spawn(async move {
        while let Ok((stream, _)) = listener.accept().await {
            let acceptor = acceptor.clone();
            tokio::spawn(async move {
                let Ok(mut stream) = acceptor.accept(stream).await else { return };
                let mut server = TcpStream::connect(("127.0.0.1", to)).await.unwrap();
                let _ = tokio::io::copy_bidirectional(&mut stream, &mut server).await;
            });
        }
    });
    port
}

/// A proxy that leads everything to one port, and the first lines of what it was asked.
async fn proxy(to: u16) -> (String, Arc<Mutex<Vec<String>>>) {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = format!("http://me:w0rd@{}", listener.local_addr().unwrap());
    let asked = Arc::new(Mutex::new(Vec::new()));
    let seen = asked.clone();
    tokio::spawn(async move {
        while let Ok((mut stream, _)) = listener.accept().await {
            let seen = seen.clone();
            tokio::spawn(async move {
                let mut head = vec![0; 64 * 1024];
                let length = stream.read(&mut head).await.unwrap();
                let text = String::from_utf8_lossy(&head[..length]).to_lowercase();
                assert!(text.contains("proxy-authorization: basic bwu6dzbyza=="), "{text}");
                seen.lock().unwrap().push(text.lines().next().unwrap().to_owned());
                let mut server = TcpStream::connect(("127.0.0.1", to)).await.unwrap();
                match text.starts_with("connect ") {
                    true => stream.write_all(b"HTTP/1.1 200 there you are\r\n\r\n").await.unwrap(),
                    false => server.write_all(&head[..length]).await.unwrap(),
                }
                let _ = tokio::io::copy_bidirectional(&mut stream, &mut server).await;
            });
        }
    });
    (address, asked)
}

fn bench_with(env: &[(&str, &str)]) -> Bench {
    let mut host = Host::new();
    host.env = env.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect();
    Bench::with_host(host)
}

const AUTHORITY: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/certificates/ca.pem");

#[tokio::test(flavor = "multi_thread")]
async fn a_secured_server_is_believed_by_its_certificate() {
    let server = WinRmServer::start(commands).await;
    let plain = server.config();
    let port = secured(plain.winrm_port.unwrap()).await;
    let config = |insecure: bool| {
        let mut config = seconds(plain.clone().port(port), 2);
        (config.winrm_use_ssl, config.winrm_insecure) = (true, insecure);
        config
    };
    let known = bench_with(&[("SSL_CERT_FILE", AUTHORITY)]);
    let error = enter(&known, &config(false)).await.err().unwrap();
    assert!(error.message().contains("not valid for name \"127.0.0.1\""), "{error}");
    assert!(error.message().contains("set winrm_insecure = true. "), "{error}");
    assert_eq!(error.why_unreachable(), Some(packer_core::communicator::Unreachable::HostKey));
    let error = enter(&Bench::new(), &config(false).host("localhost")).await.err().unwrap();
    assert!(error.message().contains("UnknownIssuer"), "{error}");
    let machine = enter(&known, &config(true)).await.unwrap();
    assert_eq!(machine.output(known.context(), "exit 3").await.unwrap().status.code(), 3);
}

#[tokio::test(flavor = "multi_thread")]
async fn proxies_of_the_host_lead_to_other_computers() {
    let server = WinRmServer::start(commands).await;
    let plain = server.config();
    let (address, asked) = proxy(plain.winrm_port.unwrap()).await;
    let bench = bench_with(&[("HTTP_PROXY", &address)]);
    let machine = enter(&bench, &plain.clone().host("win.example").port(5985)).await.unwrap();
    assert_eq!(machine.output(bench.context(), "exit 3").await.unwrap().status.code(), 3);
    assert_eq!(asked.lock().unwrap()[0], "post http://win.example:5985/wsman http/1.1");
    let before = asked.lock().unwrap().len();
    enter(&bench, &plain).await.unwrap();
    assert_eq!(asked.lock().unwrap().len(), before, "this computer is reached without it");

    let (address, asked) = proxy(secured(plain.winrm_port.unwrap()).await).await;
    let bench = bench_with(&[("https_proxy", &address), ("SSL_CERT_FILE", AUTHORITY)]);
    let mut tls = plain.clone().host("win.example").port(5986);
    tls.winrm_use_ssl = true;
    enter(&bench, &tls).await.unwrap();
    assert_eq!(asked.lock().unwrap()[0], "connect win.example:5986 http/1.1");

    let bench = bench_with(&[("HTTP_PROXY", "socks5://127.0.0.1:1")]);
    let error = enter(&bench, &plain.host("win.example")).await.err().unwrap();
    assert!(error.message().contains("is not one for HTTP"), "{error}");
}
