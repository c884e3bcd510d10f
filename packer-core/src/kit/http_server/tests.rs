//! The server as a machine sees it.

use std::net::Ipv4Addr;
use std::path::Path;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

use super::*;
use crate::event::EventKind;
use crate::testing::Bench;

/// What comes back for a request: status, headers in small letters, body.
struct Answer {
    status: u16,
    head: String,
    body: Vec<u8>,
}

impl Answer {
    fn header(&self, name: &str) -> Option<&str> {
        self.head
            .lines()
            .filter_map(|line| line.split_once(": "))
            .find(|(n, _)| n.eq_ignore_ascii_case(name))
            .map(|(_, v)| v)
    }

    fn text(&self) -> &str {
        std::str::from_utf8(&self.body).unwrap()
    }
}

async fn ask(server: &HttpServer, request: &str) -> Answer {
    let (first, rest) = request.split_once('\n').unwrap_or((request, ""));
    let rest: String = rest.lines().map(|line| format!("{line}\r\n")).collect();
    let mut stream = TcpStream::connect(server.address()).await.unwrap();
    let text = format!("{first} HTTP/1.1\r\nHost: x\r\nConnection: close\r\n{rest}\r\n");
    stream.write_all(text.as_bytes()).await.unwrap();
    let mut all = Vec::new();
    stream.read_to_end(&mut all).await.unwrap();
    let end = all.windows(4).position(|four| four == b"\r\n\r\n").unwrap();
    let head = String::from_utf8(all[..end].to_vec()).unwrap();
    Answer { status: head.split(' ').nth(1).unwrap().parse().unwrap(), head, body: all[end + 4..].to_vec() }
}

fn put(path: impl AsRef<Path>, text: impl AsRef<[u8]>) {
    std::fs::create_dir_all(path.as_ref().parent().unwrap()).unwrap();
    std::fs::write(path, text).unwrap();
}

fn of_folder(bench: &Bench) -> HttpConfig {
    let www = bench.folder().join("www");
    put(www.join("ks.cfg"), "kickstart\n");
    put(www.join("sub/deep.txt"), "deep\n");
    put(bench.folder().join("secret"), "geheim");
    HttpConfig { http_directory: www.display().to_string(), ..HttpConfig::default() }
}

fn of_texts(texts: &[(&str, &str)]) -> HttpConfig {
    let texts = texts.iter().map(|(path, text)| ((*path).to_owned(), (*text).to_owned()));
    HttpConfig { http_content: texts.collect(), ..HttpConfig::default() }
}

async fn start(bench: &Bench, config: &HttpConfig) -> HttpServer {
    config.serve(bench.context(), Ipv4Addr::LOCALHOST.into()).await.unwrap().unwrap()
}

#[tokio::test]
async fn a_folder_is_served_as_go_serves_it() {
    let bench = Bench::new();
    let server = start(&bench, &of_folder(&bench)).await;
    assert_eq!(bench.recorder().lines(), [format!("Starting HTTP server on port {}", server.port())]);
    let file = ask(&server, "GET /ks.cfg").await;
    assert_eq!((file.status, file.text()), (200, "kickstart\n"));
    assert_eq!(file.header("content-type"), Some("text/plain; charset=utf-8"));
    assert_eq!((file.header("content-length"), file.header("accept-ranges")), (Some("10"), Some("bytes")));
    let since = file.header("last-modified").unwrap();
    assert_eq!(ask(&server, &format!("GET /ks.cfg\nIf-Modified-Since: {since}")).await.status, 304);
    let head = ask(&server, "HEAD /ks.cfg").await;
    assert_eq!((head.status, head.header("content-length"), head.body.len()), (200, Some("10"), 0));
    let names: Vec<&str> = head.head.lines().skip(1).filter_map(|line| line.split(':').next()).collect();
    assert_eq!(names[..4], ["Accept-Ranges", "Content-Length", "Content-Type", "Last-Modified"]);
    let post = ask(&server, "POST /ks.cfg\nContent-Length: 0").await;
    assert_eq!(post.text(), "kickstart\n");
    let part = ask(&server, "GET /ks.cfg\nRange: bytes=2-4").await;
    assert_eq!((part.status, part.text(), part.header("content-range")), (206, "cks", Some("bytes 2-4/10")));
    let changed = "GET /ks.cfg\nRange: bytes=2-4\nIf-Range: Thu, 01 Jan 1970 00:00:01 GMT";
    assert_eq!(ask(&server, changed).await.status, 200);
    let outside = ask(&server, "GET /ks.cfg\nRange: bytes=10-").await;
    assert_eq!((outside.status, outside.header("content-range")), (416, Some("bytes */10")));
    assert_eq!(ask(&server, "GET /sub/deep.txt?x=y").await.text(), "deep\n");
    // Pages of folders, and where they are.
    let page = ask(&server, "GET /").await;
    assert_eq!(
        page.text(),
        "<!doctype html>\n<meta name=\"viewport\" content=\"width=device-width\">\n<pre>\n<a href=\"ks.cfg\">ks.cfg</a>\n\
         <a href=\"sub/\">sub/</a>\n</pre>\n"
    );
    assert_eq!(page.header("content-type"), Some("text/html; charset=utf-8"));
    for (path, place) in [
        ("/sub", "sub/"),
        ("/sub?a=b", "sub/?a=b"),
        ("/ks.cfg/", "../ks.cfg"),
        ("/sub/index.html", "./"),
        ("/index.html", "./"),
    ] {
        let there = ask(&server, &format!("GET {path}")).await;
        assert_eq!((there.status, there.header("location")), (301, Some(place)), "{path}");
    }
    put(bench.folder().join("www/index.html"), "<p>index</p>\n");
    let index = ask(&server, "GET /").await;
    assert_eq!(
        (index.text(), index.header("content-type")),
        ("<p>index</p>\n", Some("text/html; charset=utf-8"))
    );
    let missing = ask(&server, "GET /nowhere").await;
    assert_eq!((missing.status, missing.text()), (404, "404 page not found\n"));
}

#[tokio::test]
async fn names_are_escaped_and_nothing_outside_is_served() {
    let bench = Bench::new();
    let config = of_folder(&bench);
    let www = bench.folder().join("www");
    put(www.join("odd/a b&<c>.txt"), "odd\n");
    put(www.join("odd/c:d"), "colon\n");
    let server = start(&bench, &config).await;
    let page = ask(&server, "GET /odd/").await;
    assert!(
        page.text().contains("<a href=\"a%20b&amp;%3Cc%3E.txt\">a b&amp;&lt;c&gt;.txt</a>"),
        "{}",
        page.text()
    );
    assert!(page.text().contains("<a href=\"./c:d\">c:d</a>"), "{}", page.text());
    assert_eq!(ask(&server, "GET /odd/a%20b&%3Cc%3E.txt").await.text(), "odd\n");
    for path in [
        "/../secret",
        "/%2e%2e/secret",
        "/sub/..%2f..%2fsecret",
        "/..%2fsecret",
        "/ks.cfg%00",
        "/%ff",
        "/..\\secret",
    ] {
        let answer = ask(&server, &format!("GET {path}")).await;
        assert_eq!(answer.status, 404, "{path}: {}", answer.head);
    }
    // What is inside is found by any way that stays there.
    assert_eq!(ask(&server, "GET /sub/../ks.cfg").await.text(), "kickstart\n");
    #[cfg(unix)]
    {
        // Whoever puts a link there serves what it leads to, as in Packer.
        std::os::unix::fs::symlink("../secret", www.join("link")).unwrap();
        assert_eq!(ask(&server, "GET /link").await.text(), "geheim");
        // A pipe would keep the server waiting.
        let pipe = www.join("pipe");
        assert!(std::process::Command::new("mkfifo").arg(&pipe).status().unwrap().success());
        assert_eq!(ask(&server, "GET /pipe").await.status, 403);
    }
}

#[tokio::test]
async fn texts_are_served_by_their_paths() {
    let bench = Bench::new();
    let config = of_texts(&[
        ("/ks.cfg", "name=vm\n"),
        ("/a.json", "{}"),
        ("/b", "<html></html>"),
        ("/empty", ""),
        ("noslash", "no slash\n"),
    ]);
    let server = start(&bench, &config).await;
    for (path, text, kind) in [
        ("/ks.cfg", "name=vm\n", "text/plain; charset=utf-8"),
        ("//x/../ks.cfg?a=b", "name=vm\n", "text/plain; charset=utf-8"),
        ("/ks.cfg/", "name=vm\n", "text/plain; charset=utf-8"),
        ("/a.json", "{}", "text/plain; charset=utf-8"),
        ("/b", "<html></html>", "text/html; charset=utf-8"),
        ("/empty", "", "text/plain; charset=utf-8"),
    ] {
        let answer = ask(&server, &format!("GET {path}")).await;
        assert_eq!(
            (answer.status, answer.text(), answer.header("content-type")),
            (200, text, Some(kind)),
            "{path}"
        );
    }
    for (path, text) in [
        ("/ks.cf", "/ks.cf not found. Did you mean \"/ks.cfg\"?\n"),
        ("/noslash", "/noslash not found. Did you mean \"noslash\"?\n"),
        ("/something", "/something not found.\n"),
    ] {
        let answer = ask(&server, &format!("GET {path}")).await;
        assert_eq!((answer.status, answer.text()), (404, text));
    }
    let head = ask(&server, "HEAD /ks.cfg").await;
    assert_eq!((head.status, head.header("content-length"), head.body.len()), (200, Some("8"), 0));
}

#[tokio::test]
async fn large_files_come_whole_and_what_breaks_off_is_seen() {
    let bench = Bench::new();
    let config = of_folder(&bench);
    let content: Vec<u8> = (0..5_000_000u32).map(|n| (n % 251) as u8).collect();
    put(bench.folder().join("www/large"), &content);
    let server = start(&bench, &config).await;
    assert!(ask(&server, "GET /large").await.body == content);
    let part = ask(&server, "GET /large\nRange: bytes=1048575-3145729").await;
    assert!(part.body == content[1_048_575..3_145_730]);
}

#[tokio::test]
async fn what_was_asked_is_told() {
    let bench = Bench::new();
    let server = start(&bench, &of_texts(&[("/ks.cfg", "name=vm\n")])).await;
    ask(&server, "GET /ks.cfg?x").await;
    ask(&server, "GET /nowhere").await;
    let told: Vec<String> = bench
        .recorder()
        .events()
        .iter()
        .filter_map(|event| match &event.kind {
            EventKind::Served { method, path, status, bytes, peer } => {
                assert!(peer.starts_with("127.0.0.1:"), "{peer}");
                Some(format!("{method} {path} {status} {bytes}"))
            }
            _ => None,
        })
        .collect();
    assert_eq!(told, ["GET /ks.cfg 200 8", "GET /nowhere 404 20"]);
}

#[tokio::test]
async fn the_end_of_the_server_frees_its_port_and_hangs_up() {
    let bench = Bench::new();
    let mut config = of_texts(&[("/a", "a")]);
    let free = i64::from(bench.context().reserve_port(None).unwrap().number());
    (config.http_port_min, config.http_port_max) = (free, free);
    let server = start(&bench, &config).await;
    let address = server.address();
    let mut silent = TcpStream::connect(address).await.unwrap();
    ask(&server, "GET /a").await;
    // Another server waits for the port, and says so once.
    let other = {
        let (cx, config) = (bench.context().clone(), config.clone());
        tokio::spawn(async move { config.serve(&cx, Ipv4Addr::LOCALHOST.into()).await })
    };
    tokio::time::sleep(Duration::from_millis(350)).await;
    assert!(!other.is_finished());
    drop(server);
    let end = tokio::time::timeout(Duration::from_secs(10), silent.read(&mut [0; 8])).await.unwrap();
    assert!(matches!(end, Ok(0) | Err(_)), "{end:?}");
    let other =
        tokio::time::timeout(Duration::from_secs(10), other).await.unwrap().unwrap().unwrap().unwrap();
    assert_eq!(other.address(), address);
    let waiting =
        bench.recorder().lines().iter().filter(|line| line.starts_with("Waiting for a free port")).count();
    assert_eq!(waiting, 1);
    // Cancellation ends the wait.
    let third = {
        let (cx, config) = (bench.context().clone(), config.clone());
        tokio::spawn(async move { config.serve(&cx, Ipv4Addr::LOCALHOST.into()).await })
    };
    tokio::time::sleep(Duration::from_millis(50)).await;
    bench.cancel();
    assert!(third.await.unwrap().unwrap_err().is_cancelled());
}

#[tokio::test]
async fn heads_of_requests_are_bounded() {
    let bench = Bench::new();
    let server = start(&bench, &of_texts(&[("/a", "a")])).await;
    let mut stream = TcpStream::connect(server.address()).await.unwrap();
    let _ = stream.write_all(format!("GET /{} HTTP/1.1\r\n", "x".repeat(1 << 20)).as_bytes()).await;
    let mut answer = Vec::new();
    let end = tokio::time::timeout(Duration::from_secs(10), stream.read_to_end(&mut answer)).await.unwrap();
    let text = String::from_utf8_lossy(&answer);
    assert!(end.is_err() || text.is_empty() || text.starts_with("HTTP/1.1 4"), "{text}");
    assert_eq!(ask(&server, "GET /a").await.text(), "a");
}

#[tokio::test]
async fn where_there_is_nothing_to_serve_or_no_place_to_listen() {
    let bench = Bench::new();
    let serve = async |config: &HttpConfig| config.serve(bench.context(), Ipv4Addr::LOCALHOST.into()).await;
    assert!(serve(&HttpConfig::default()).await.unwrap().is_none());
    let missing = HttpConfig { http_directory: "nowhere".to_owned(), ..HttpConfig::default() };
    let error = serve(&missing).await.unwrap_err();
    assert_eq!(error.message(), "Error finding \"nowhere\": stat nowhere: no such file or directory");
    let mut config = of_texts(&[("/a", "a")]);
    // An address of nobody here.
    config.http_bind_address = "192.0.2.1".to_owned();
    assert!(serve(&config).await.unwrap_err().message().starts_with("Error finding port: "));
    config.http_bind_address = "127.0.0.2".to_owned();
    let server = serve(&config).await.unwrap().unwrap();
    assert_eq!(server.address().ip().to_string(), "127.0.0.2");
    config.http_network_protocol = "tcp6".to_owned();
    assert!(serve(&config).await.unwrap_err().message().contains("no address of the protocol tcp6"));
    config.http_network_protocol = "unixpacket".to_owned();
    assert!(config.prepare().is_empty());
    assert!(serve(&config).await.unwrap_err().message().starts_with("http_network_protocol unixpacket: "));
}

#[test]
fn options_are_checked_in_packers_words() {
    let found = |change: &dyn Fn(&mut HttpConfig)| {
        let mut config = HttpConfig::default();
        change(&mut config);
        config.prepare().iter().map(|d| d.summary.clone()).collect::<Vec<_>>().join("|")
    };
    assert_eq!(found(&|_| ()), "");
    assert_eq!(found(&|c| c.http_directory = "nowhere".to_owned()), "");
    let text = "http_port_min must be less than http_port_max";
    assert_eq!(found(&|c| c.http_port_min = 9500), text);
    assert_eq!(found(&|c| (c.http_port_min, c.http_port_max) = (9000, 8000)), text);
    assert_eq!(found(&|c| c.http_port_max = 70000), "http_port_max must be a port: 1 to 65535");
    assert_eq!(
        found(&|c| c.http_network_protocol = "udp".to_owned()),
        "http_network_protocol is invalid. Must be one of: [tcp tcp4 tcp6 unix unixpacket]"
    );
    assert_eq!(
        found(&|c| (c.http_bind_address, c.http_interface) = ("127.0.0.1".to_owned(), "lo".to_owned())),
        "either http_interface or http_bind_address can be specified"
    );
    let both = found(&|c| {
        c.http_directory = "www".to_owned();
        c.http_content.insert("/a".to_owned(), "a".to_owned());
    });
    assert!(both.starts_with("http_content cannot be used in conjunction with http_directory"), "{both}");
}
