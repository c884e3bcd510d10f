//! Downloads from servers that behave, and from some that do not.

use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use tokio::io::{AsyncBufReadExt, AsyncWriteExt, BufReader};
use tokio::net::TcpListener;

use super::*;
use crate::testing::{Bench, TempFolder};

const DISC: &[u8] = b"the disc\n";
const SUM: &str = "sha256:6022499ccf48e32b9a7ea7e7bca87efd9cf93604fa0163348b8e3f8a9e23f9c0";
const NAME: &str = "c28efa9eac5ba773a8a89927e9776e44ae65b1a5.iso";

/// A request as a server sees it.
struct Asked {
    head: bool,
    path: String,
    range: Option<usize>,
    /// Which request for a file it is, from 0.
    number: usize,
    login: bool,
}

/// What a server sends; afterwards it closes the connection, or says nothing for ever.
struct Reply {
    bytes: Vec<u8>,
    hangs: bool,
}

fn reply(head: &str, body: &[u8]) -> Reply {
    Reply { bytes: [head.as_bytes(), b"\r\nConnection: close\r\n\r\n", body].concat(), hangs: false }
}

/// A file as a usual server gives it.
fn file(asked: &Asked, content: &[u8]) -> Reply {
    let all = content.len();
    let (status, from) = match asked.range {
        Some(from) if from >= all => return reply("HTTP/1.1 416 no\r\nContent-Length: 0", b""),
        Some(from) => (format!("206 part\r\nContent-Range: bytes {from}-{}/{all}", all - 1), from),
        None => ("200 OK".to_owned(), 0),
    };
    let head = format!("HTTP/1.1 {status}\r\nAccept-Ranges: bytes\r\nContent-Length: {}", all - from);
    reply(&head, if asked.head { b"" } else { &content[from..] })
}

struct Peer {
    address: String,
    log: Arc<Mutex<Vec<String>>>,
}

impl Peer {
    async fn new(answer: impl Fn(&Asked) -> Reply + Send + Sync + 'static) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap().to_string();
        let log = Arc::<Mutex<Vec<String>>>::default();
        let (seen, answer) = (log.clone(), Arc::new(answer));
        tokio::spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                let (seen, answer) = (seen.clone(), answer.clone());
                tokio::spawn(async move {
                    let mut stream = BufReader::new(stream);
                    let mut lines = Vec::new();
                    loop {
                        let mut line = String::new();
                        if stream.read_line(&mut line).await.unwrap_or(0) < 3 {
                            break;
                        }
                        lines.push(line.trim().to_owned());
                    }
                    let Some(first) = lines.first() else { return };
                    let mut words = first.split(' ');
                    let (method, path) = (words.next().unwrap(), words.next().unwrap().to_owned());
                    let header = |name: &str| {
                        let mut lines = lines.iter().filter_map(|line| line.split_once(": "));
                        lines.find(|(found, _)| found.eq_ignore_ascii_case(name)).map(|(_, value)| value)
                    };
                    let range =
                        header("range").map(|r| r["bytes=".len()..].trim_end_matches('-').parse().unwrap());
                    let number = seen.lock().unwrap().iter().filter(|line| line.starts_with("GET")).count();
                    let text = match range {
                        Some(from) => format!("{method} {path} {from}-"),
                        None => format!("{method} {path}"),
                    };
                    seen.lock().unwrap().push(text);
                    let login = header("authorization") == Some("Basic bWU6Z2VoZWlt");
                    let reply = answer(&Asked { head: method == "HEAD", path, range, number, login });
                    let _ = stream.write_all(&reply.bytes).await;
                    if reply.hangs {
                        std::future::pending::<()>().await;
                    }
                });
            }
        });
        Self { address, log }
    }

    async fn disc() -> Self {
        Self::new(|asked| file(asked, DISC)).await
    }

    fn url(&self, path: &str) -> String {
        format!("http://{}/{path}", self.address)
    }

    fn log(&self) -> Vec<String> {
        std::mem::take(&mut *self.log.lock().unwrap())
    }
}

fn iso(urls: &[String], checksum: &str) -> IsoConfig {
    let (iso_urls, iso_checksum) = (urls.to_vec(), checksum.to_owned());
    IsoConfig { iso_urls, iso_checksum, ..IsoConfig::default() }
}

fn cached(bench: &Bench, name: &str) -> PathBuf {
    bench.folder().join("cache").join(name)
}

fn put(bench: &Bench, name: &str, content: &[u8]) -> PathBuf {
    let path = cached(bench, name);
    std::fs::create_dir_all(path.parent().unwrap()).unwrap();
    std::fs::write(&path, content).unwrap();
    path
}

fn names(folder: &Path) -> Vec<String> {
    let entries = std::fs::read_dir(folder).unwrap();
    let mut names: Vec<String> = entries.map(|e| e.unwrap().file_name().into_string().unwrap()).collect();
    names.sort();
    names
}

fn hurried(limit: &str) -> (TempFolder, Bench) {
    let folder = TempFolder::new();
    let mut host = Host::new();
    host.cache_dir = folder.path().join("cache");
    host.env.insert("PACKER_GETTER_READ_TIMEOUT".to_owned(), limit.to_owned());
    (folder, Bench::with_host(host))
}

#[tokio::test]
async fn a_file_is_fetched_once_and_said_in_packers_words() {
    let (bench, peer) = (Bench::new(), Peer::disc().await);
    let config = iso(&[peer.url("disc.iso")], &SUM.to_uppercase()["SHA256:".len()..]);
    let found = config.fetch(bench.context()).await.unwrap();
    let path = cached(&bench, NAME);
    assert_eq!((found.path.as_path(), found.url.as_str()), (path.as_path(), peer.url("disc.iso").as_str()));
    assert_eq!(std::fs::read(&path).unwrap(), DISC);
    assert_eq!(peer.log(), ["HEAD /disc.iso", "GET /disc.iso"]);
    config.fetch(bench.context()).await.unwrap();
    assert_eq!(peer.log(), [""; 0]);
    assert_eq!(names(&bench.folder().join("cache")), [NAME.to_owned(), format!("{NAME}.lock")]);
    let said = bench.recorder().lines();
    let with = format!("{}?checksum={}", peer.url("disc.iso"), SUM.replace(':', "%3A"));
    assert_eq!(
        said[..4],
        [
            "Retrieving ISO".to_owned(),
            format!("Trying {}", peer.url("disc.iso")),
            format!("Trying {with}"),
            format!("{with} => {}", path.display())
        ]
    );
    assert!(bench.outstanding().is_empty());
}

#[tokio::test]
async fn what_is_in_the_cache_is_taken_continued_or_removed_as_packer_does() {
    let (bench, peer) = (Bench::new(), Peer::disc().await);
    let config = iso(&[peer.url("disc.iso")], SUM);
    // Longer than it should be.
    let path = put(&bench, NAME, b"something else that is longer\n");
    let error = config.fetch(bench.context()).await.unwrap_err();
    assert_eq!(
        error.message(),
        format!(
            "error downloading ISO: [Checksums did not match for {}.\nExpected: {}\nGot: \
             55714c18c257ca3daf7d520c4928d2d312039fd6018c572d8032ed79f7ef6357]",
            path.display(),
            &SUM[7..]
        )
    );
    assert_eq!(peer.log(), ["HEAD /disc.iso"]);
    let said = bench.recorder().lines();
    assert_eq!(said.last().unwrap(), &format!("Checksum did not match, removing {}", path.display()));
    assert!(!path.exists());
    // Another beginning.
    put(&bench, NAME, b"xxx\n");
    assert!(config.fetch(bench.context()).await.is_err());
    assert_eq!(peer.log(), ["HEAD /disc.iso", "GET /disc.iso 4-"]);
    assert_eq!(names(&bench.folder().join("cache")), [format!("{NAME}.lock")]);
    // The right one.
    put(&bench, NAME, b"the ");
    config.fetch(bench.context()).await.unwrap();
    assert_eq!(peer.log(), ["HEAD /disc.iso", "GET /disc.iso 4-"]);
    assert_eq!(std::fs::read(&path).unwrap(), DISC);
}

#[tokio::test]
async fn a_download_that_broke_off_goes_on_and_begins_anew_where_it_does_not_fit() {
    let (bench, peer) = (Bench::new(), Peer::disc().await);
    let config = iso(&[peer.url("disc.iso")], SUM);
    let part = format!("{NAME}.part");
    for (left, requests) in [
        (&b"the"[..], &["HEAD /disc.iso", "GET /disc.iso 3-"][..]),
        (b"xxx", &["HEAD /disc.iso", "GET /disc.iso 3-", "GET /disc.iso"]),
        (DISC, &["HEAD /disc.iso"]),
        (b"the disk\n", &["HEAD /disc.iso", "GET /disc.iso"]),
        (b"something else that is longer", &["HEAD /disc.iso", "GET /disc.iso"]),
    ] {
        put(&bench, &part, left);
        config.fetch(bench.context()).await.unwrap();
        assert_eq!(peer.log(), requests);
        assert_eq!(std::fs::read(cached(&bench, NAME)).unwrap(), DISC);
        assert!(!cached(&bench, &part).exists());
        std::fs::remove_file(cached(&bench, NAME)).unwrap();
    }
}

#[tokio::test]
async fn a_broken_connection_and_a_failing_server_are_tried_again() {
    let bench = Bench::new();
    let peer = Peer::new(|asked| match (asked.head, asked.number) {
        (false, 0) => reply("HTTP/1.1 500 not yet\r\nContent-Length: 0", b""),
        (false, 1) => reply("HTTP/1.1 200 OK\r\nAccept-Ranges: bytes\r\nContent-Length: 9", b"the "),
        _ => file(asked, DISC),
    })
    .await;
    iso(&[peer.url("disc.iso")], SUM).fetch(bench.context()).await.unwrap();
    assert_eq!(peer.log(), ["HEAD /disc.iso", "GET /disc.iso", "GET /disc.iso", "GET /disc.iso 4-"]);
    // Without a checksum and without a tag nobody knows that the rest belongs to the beginning.
    let bench = Bench::new();
    let peer = Peer::new(|asked| match (asked.head, asked.number) {
        (false, 0) => reply("HTTP/1.1 200 OK\r\nAccept-Ranges: bytes\r\nContent-Length: 9", b"old "),
        _ => file(asked, DISC),
    })
    .await;
    let found = iso(&[peer.url("disc.iso")], "none").fetch(bench.context()).await.unwrap();
    assert_eq!(peer.log(), ["HEAD /disc.iso", "GET /disc.iso", "GET /disc.iso"]);
    assert_eq!(std::fs::read(found.path).unwrap(), DISC);
    assert!(bench.outstanding().is_empty());
}

#[tokio::test]
async fn a_tag_says_that_the_rest_belongs_to_the_beginning() {
    let bench = Bench::new();
    let peer = Peer::new(|asked| {
        let mut reply = match (asked.head, asked.number) {
            (false, 0) => reply("HTTP/1.1 200 OK\r\nAccept-Ranges: bytes\r\nContent-Length: 9", b"the "),
            _ => file(asked, DISC),
        };
        let end = reply.bytes.windows(2).position(|two| two == b"\r\n").unwrap();
        reply.bytes.splice(end..end, *b"\r\nETag: \"1\"");
        reply
    })
    .await;
    let found = iso(&[peer.url("disc.iso")], "none").fetch(bench.context()).await.unwrap();
    assert_eq!(peer.log(), ["HEAD /disc.iso", "GET /disc.iso", "GET /disc.iso 4-"]);
    assert_eq!(std::fs::read(found.path).unwrap(), DISC);
}

#[tokio::test]
async fn a_server_without_ranges_is_read_from_the_start() {
    let (bench, peer) = (
        Bench::new(),
        Peer::new(|asked| match asked.head {
            // It tells more than it does.
            true => file(asked, DISC),
            false => reply("HTTP/1.1 200 OK\r\nContent-Length: 9", DISC),
        })
        .await,
    );
    put(&bench, NAME, b"xxx");
    iso(&[peer.url("disc.iso")], SUM).fetch(bench.context()).await.unwrap();
    assert_eq!(peer.log(), ["HEAD /disc.iso", "GET /disc.iso 3-"]);
    assert_eq!(std::fs::read(cached(&bench, NAME)).unwrap(), DISC);
    // Neither HEAD nor a length.
    let (bench, peer) = (
        Bench::new(),
        Peer::new(|asked| match asked.head {
            true => reply("HTTP/1.1 405 no", b""),
            false => reply("HTTP/1.1 200 OK", DISC),
        })
        .await,
    );
    put(&bench, NAME, b"something else that is longer\n");
    iso(&[peer.url("disc.iso")], SUM).fetch(bench.context()).await.unwrap();
    assert_eq!(std::fs::read(cached(&bench, NAME)).unwrap(), DISC);
    assert_eq!(peer.log(), ["HEAD /disc.iso", "GET /disc.iso"]);
}

#[tokio::test]
async fn each_place_is_tried_and_one_that_says_nothing_is_given_up() {
    let (_folder, bench) = hurried("300ms");
    let silent = Peer::new(|_| Reply { bytes: Vec::new(), hangs: true }).await;
    let stuck = Peer::new(|asked| Reply {
        hangs: !asked.head,
        ..reply("HTTP/1.1 200 OK\r\nContent-Length: 9", b"th")
    })
    .await;
    let other = Peer::new(|asked| file(asked, b"another disc\n")).await;
    let good = Peer::disc().await;
    let missing = Peer::new(|_| reply("HTTP/1.1 404 no\r\nContent-Length: 0", b"")).await;
    let places: Vec<String> =
        [&silent, &stuck, &missing, &other, &good].iter().map(|peer| peer.url("disc.iso")).collect();
    let found = iso(&places, SUM).fetch(bench.context()).await.unwrap();
    assert_eq!(std::fs::read(found.path).unwrap(), DISC);
    assert_eq!(found.url, good.url("disc.iso"));
    let said = bench.recorder().lines().join("\n");
    assert!(said.contains("Download failed 127.0.0.1 has sent nothing for 0.3 s"), "{said}");
    assert!(said.contains("Download failed bad response code: 404"), "{said}");
    assert!(said.contains("Checksum did not match, removing "), "{said}");
}

#[tokio::test]
async fn the_error_names_what_went_wrong_everywhere() {
    let bench = Bench::new();
    let missing = Peer::new(|_| reply("HTTP/1.1 404 no\r\nContent-Length: 0", b"")).await;
    let folder = bench.folder().display().to_string();
    let places =
        [missing.url("x"), "gopher://x/disc.iso".into(), format!("{folder}/nowhere.iso"), folder.clone()];
    let error = iso(&places, SUM).fetch(bench.context()).await.unwrap_err();
    assert_eq!(
        error.message(),
        format!(
            "error downloading ISO: [bad response code: 404 error downloading 'gopher://x/disc.iso': files are fetched by \
             http and https and from folders, not by gopher source path error: stat {folder}/nowhere.iso: no such file or \
             directory source path must be a file]"
        )
    );
    assert_eq!(names(&bench.folder().join("cache")), [format!("{NAME}.lock")]);
}

#[tokio::test]
async fn the_checksum_of_a_url_counts_and_stays() {
    let (bench, peer) = (
        Bench::new(),
        Peer::new(|asked| match asked.path.starts_with("/404") {
            true => reply("HTTP/1.1 404 no\r\nContent-Length: 0", b""),
            false => file(asked, DISC),
        })
        .await,
    );
    let first = peer.url("404?checksum=md5:35793cae08d778633e70d924572f4170");
    let config = iso(&[first, peer.url("disc.iso")], &SUM.replace("60", "06"));
    let found = config.fetch(bench.context()).await.unwrap();
    assert_eq!(found.path, cached(&bench, "bbc5e555b5b68acf2f71fcdb21fc41876bce9cc3.iso"));
    assert_eq!(
        config.digest(bench.context()).await.unwrap().as_deref(),
        Some("md5:35793cae08d778633e70d924572f4170")
    );
}

#[tokio::test]
async fn several_builds_and_processes_fetch_a_file_once() {
    let slow = || {
        Peer::new(|asked| {
            std::thread::sleep(Duration::from_millis(if asked.head { 0 } else { 200 }));
            file(asked, DISC)
        })
    };
    let (bench, peer) = (Bench::new(), slow().await);
    let config = iso(&[peer.url("disc.iso")], SUM);
    let cx = bench.context();
    let (a, b, c) = tokio::join!(config.fetch(cx), config.fetch(cx), config.fetch(cx));
    assert_eq!((a.unwrap().path, b.unwrap().path), (cached(&bench, NAME), c.unwrap().path));
    assert_eq!(peer.log(), ["HEAD /disc.iso", "GET /disc.iso"]);
    let waiting = bench.recorder().lines().iter().filter(|text| text.starts_with("Waiting for")).count();
    assert_eq!(waiting, 2);
    // Two runs know no more of each other than two processes do.
    let (folder, peer) = (TempFolder::new(), slow().await);
    let host = || {
        let mut host = Host::new();
        host.cache_dir = folder.path().join("cache");
        host
    };
    let (one, other) = (Bench::with_host(host()), Bench::with_host(host()));
    let config = iso(&[peer.url("disc.iso")], SUM);
    let (a, b) = tokio::join!(config.fetch(one.context()), config.fetch(other.context()));
    assert_eq!(a.unwrap().path, b.unwrap().path);
    assert_eq!(peer.log(), ["HEAD /disc.iso", "GET /disc.iso"]);
}

#[tokio::test]
async fn whoever_waits_or_downloads_can_be_cancelled() {
    for (checksum, left) in [(SUM, true), ("none", false)] {
        let bench = Bench::new();
        let peer = Peer::new(|asked| Reply {
            hangs: !asked.head,
            ..reply("HTTP/1.1 200 OK\r\nContent-Length: 9", if asked.head { b"" } else { b"the " })
        })
        .await;
        let config = iso(&[peer.url("disc.iso")], checksum);
        let cancel = async {
            while !peer.log.lock().unwrap().iter().any(|line| line.starts_with("GET")) {
                tokio::time::sleep(Duration::from_millis(5)).await;
            }
            tokio::time::sleep(Duration::from_millis(50)).await;
            bench.cancel();
        };
        let both =
            async { tokio::join!(config.fetch(bench.context()), config.fetch(bench.context()), cancel) };
        let (one, other, ()) = tokio::time::timeout(Duration::from_secs(10), both).await.unwrap();
        assert!(one.unwrap_err().is_cancelled() && other.unwrap_err().is_cancelled());
        tokio::time::timeout(Duration::from_secs(10), bench.context().record_of_build().quiet())
            .await
            .unwrap();
        let parts: Vec<String> =
            names(&bench.folder().join("cache")).into_iter().filter(|name| name.ends_with(".part")).collect();
        assert_eq!(parts.len(), usize::from(left), "{parts:?}");
    }
}

#[tokio::test]
async fn packed_files_are_unpacked_once() {
    use std::io::Write;
    let mut encoder = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
    encoder.write_all(DISC).unwrap();
    let packed = encoder.finish().unwrap();
    let mut hasher = checksum::Hasher::new(checksum::Kind::Sha1);
    hasher.update(&packed);
    let sum = format!("sha1:{}", hasher.finish());
    let (bench, content) = (Bench::new(), packed.clone());
    let peer = Peer::new(move |asked| file(asked, &content)).await;
    let config = iso(&[peer.url("disc.iso.gz")], &sum);
    let found = config.fetch(bench.context()).await.unwrap();
    assert_eq!(std::fs::read(&found.path).unwrap(), DISC);
    assert_eq!(peer.log(), ["HEAD /disc.iso.gz", "GET /disc.iso.gz"]);
    config.fetch(bench.context()).await.unwrap();
    assert_eq!(peer.log(), [""; 0]);
    // Somebody wrote into it.
    std::fs::write(&found.path, "x").unwrap();
    config.fetch(bench.context()).await.unwrap();
    assert_eq!(std::fs::read(&found.path).unwrap(), DISC);
    let plain = iso(&[peer.url("disc.iso.gz?archive=false")], &sum).fetch(bench.context()).await;
    assert!(plain.unwrap_err().message().contains("Checksums did not match"));
    let plain = iso(&[peer.url("disc.iso.gz?archive=false")], "none").fetch(bench.context()).await.unwrap();
    assert_eq!(std::fs::read(&plain.path).unwrap(), packed);
    // A local one.
    let local = bench.folder().join("local.iso.gz");
    std::fs::write(&local, &packed).unwrap();
    let found = iso(&[local.display().to_string()], "none").fetch(bench.context()).await.unwrap();
    assert_eq!(std::fs::read(&found.path).unwrap(), DISC);
    assert!(local.exists() && found.path.starts_with(bench.folder().join("cache")));
    // The sum of what is in it is not that of the file.
    assert!(iso(&[peer.url("disc.iso.gz")], SUM).fetch(bench.context()).await.is_err());
    assert!(!cached(&bench, NAME).exists());
    std::fs::write(&local, &packed[..packed.len() - 3]).unwrap();
    let error = iso(&[local.display().to_string()], "none").fetch(bench.context()).await.unwrap_err();
    assert!(error.message().contains("unpack "), "{error}");
}

#[cfg(feature = "machines-archives")]
#[tokio::test]
async fn archives_of_one_file_are_unpacked_and_others_refused() {
    use std::io::Write;
    let bench = Bench::new();
    let tar = |files: &[&str]| {
        let mut tar = tar::Builder::new(Vec::new());
        for name in files {
            let mut header = tar::Header::new_gnu();
            header.set_size(DISC.len() as u64);
            header.set_mode(0o644);
            tar.append_data(&mut header, name, DISC).unwrap();
        }
        tar.into_inner().unwrap()
    };
    let zip = |files: &[&str]| {
        let mut zip = zip::ZipWriter::new(std::io::Cursor::new(Vec::new()));
        for name in files {
            zip.start_file(*name, zip::write::SimpleFileOptions::default()).unwrap();
            zip.write_all(DISC).unwrap();
        }
        zip.finish().unwrap().into_inner()
    };
    let xz = |bytes: &[u8]| {
        let mut encoder = liblzma::write::XzEncoder::new(Vec::new(), 1);
        encoder.write_all(bytes).unwrap();
        encoder.finish().unwrap()
    };
    let bz2 = |bytes: &[u8]| {
        let mut encoder = bzip2::write::BzEncoder::new(Vec::new(), bzip2::Compression::fast());
        encoder.write_all(bytes).unwrap();
        encoder.finish().unwrap()
    };
    for (name, content, fits) in [
        ("a.xz", xz(DISC), true),
        ("a.bz2", bz2(DISC), true),
        ("a.zst", zstd::encode_all(DISC, 1).unwrap(), true),
        ("a.tar.xz", xz(&tar(&["d/disc.iso"])), true),
        ("a.tbz2", bz2(&tar(&["disc.iso"])), true),
        ("a.tar", tar(&["a", "b"]), false),
        ("b.tar", tar(&[]), false),
        ("a.zip", zip(&["disc.iso"]), true),
        ("b.zip", zip(&["a", "b"]), false),
        ("c.zip", b"no archive".to_vec(), false),
    ] {
        let path = bench.folder().join(name);
        std::fs::write(&path, content).unwrap();
        let found = iso(&[path.display().to_string()], "none").fetch(bench.context()).await;
        assert_eq!(found.is_ok(), fits, "{name}: {found:?}");
        if let Ok(found) = found {
            assert_eq!(std::fs::read(found.path).unwrap(), DISC, "{name}");
        }
    }
}

#[tokio::test]
async fn a_password_is_sent_and_never_shown() {
    let (bench, peer) = (
        Bench::new(),
        Peer::new(|asked| match asked.login {
            true => file(asked, DISC),
            false => reply("HTTP/1.1 401 no\r\nContent-Length: 0", b""),
        })
        .await,
    );
    let url = format!("http://me:geheim@{}/disc.iso", peer.address);
    let found = iso(std::slice::from_ref(&url), SUM).fetch(bench.context()).await.unwrap();
    assert!(!found.url.contains("geheim"), "{found:?}");
    let wrong = url.replace("geheim", "falsch");
    let error = iso(&[wrong], "none").fetch(bench.context()).await.unwrap_err();
    let told = format!("{:?} {error}", bench.recorder().lines());
    assert!(!told.contains("geheim") && !told.contains("falsch"), "{told}");
    assert!(
        iso(std::slice::from_ref(&url), "none")
            .byte_serving_url(bench.context())
            .await
            .unwrap()
            .contains("geheim")
    );
}

#[tokio::test]
async fn local_files_are_used_where_they_are_and_never_removed() {
    let bench = Bench::new();
    let path = bench.folder().join("my disc.iso");
    std::fs::write(&path, DISC).unwrap();
    let text = path.display().to_string();
    let found = iso(std::slice::from_ref(&text), SUM).fetch(bench.context()).await.unwrap();
    assert_eq!(found.path, path);
    let up = format!("file://{}/x/../my%20disc.iso", bench.folder().display());
    assert_eq!(iso(&[up], SUM).fetch(bench.context()).await.unwrap().path, path);
    std::fs::write(&path, "another disc\n").unwrap();
    let error = iso(&[text], SUM).fetch(bench.context()).await.unwrap_err();
    assert!(error.message().contains("\nGot: 680e92e3"), "{error}");
    assert_eq!(std::fs::read(&path).unwrap(), b"another disc\n");
}

#[tokio::test]
async fn the_file_is_kept_where_it_is_told() {
    let (bench, peer) = (Bench::new(), Peer::disc().await);
    let got = bench.folder().join("got").display().to_string();
    let mut config = iso(&[peer.url("disc.iso")], SUM);
    for (target, extension, path) in [
        (got.clone(), "IMG", format!("{got}/{}", NAME.replace(".iso", ".img"))),
        (format!("{got}/"), "", format!("{got}/{NAME}")),
        (format!("{got}/sub/disc.img"), "", format!("{got}/sub/disc.img")),
    ] {
        (config.iso_target_path, config.iso_target_extension) = (target, extension.to_owned());
        assert_eq!(config.fetch(bench.context()).await.unwrap().path, Path::new(&path));
        assert_eq!(std::fs::read(path).unwrap(), DISC);
    }
    // Without a checksum, what is there and long enough is taken.
    peer.log();
    std::fs::write(&config.iso_target_path, "what is there\n").unwrap();
    config.iso_checksum = "none".to_owned();
    config.fetch(bench.context()).await.unwrap();
    assert_eq!(peer.log(), ["HEAD /disc.iso"]);
    assert_eq!(std::fs::read(&config.iso_target_path).unwrap(), b"what is there\n");
    // The cache is named by the URL then.
    config.iso_target_path.clear();
    let found = config.fetch(bench.context()).await.unwrap();
    use sha1::Digest;
    let name = checksum::hex(&sha1::Sha1::digest(peer.url("disc.iso")));
    assert_eq!(found.path, cached(&bench, &format!("{name}.iso")));
}

#[tokio::test]
async fn options_are_checked_in_packers_words() {
    let bench = Bench::new();
    let folder = bench.folder().display().to_string();
    let list = format!("{folder}/SHA256SUMS");
    std::fs::write(&list, format!("# sums\n{}  disc.iso\n", &SUM[7..])).unwrap();
    let found = async |config: IsoConfig| {
        let found = config.prepare(bench.prepare_context()).await;
        found.iter().map(|d| d.summary.clone()).collect::<Vec<_>>().join("|")
    };
    let one = |checksum: &str| iso(&["disc.iso".to_owned()], checksum);
    assert_eq!(found(one(SUM)).await, "");
    assert_eq!(found(one(&format!("file:{list}"))).await, "");
    assert_eq!(found(one("")).await, "A checksum must be specified");
    assert_eq!(found(iso(&[], SUM)).await, "One of iso_url or iso_urls must be specified");
    let both = IsoConfig { iso_url: "disc.iso".to_owned(), ..one(SUM) };
    assert_eq!(found(both).await, "Only one of iso_url or iso_urls must be specified");
    let none = one("none").prepare(bench.prepare_context()).await;
    assert!(!none.has_errors() && none.len() == 1);
    assert_eq!(
        found(one("disc.iso")).await,
        "Error parsing checksum: .iso is not a valid checksum ending|invalid checksum: encoding/hex: invalid byte: U+0069 'i' in \
         \"disc.iso\""
    );
    assert_eq!(
        found(one(&format!("file:{folder}/nowhere"))).await,
        format!(
            "Error downloading checksum file: source path error: stat {folder}/nowhere: no such file or directory in \
             \"file:{folder}/nowhere\""
        )
    );
    let other = iso(&["other.iso".to_owned()], &format!("file:{list}"));
    assert_eq!(found(other).await, format!("no checksum found in: {list} in \"file:{list}\""));
}

#[tokio::test]
async fn a_list_is_fetched_once_and_what_it_says_counts() {
    let bench = Bench::new();
    let peer = Peer::new(|asked| match asked.path.as_str() {
        "/SHA256SUMS" => file(asked, format!("{}  disc.iso\n", &SUM[7..]).as_bytes()),
        "/disc.iso" => file(asked, DISC),
        _ => reply("HTTP/1.1 404 no\r\nContent-Length: 0", b""),
    })
    .await;
    let config = iso(&[peer.url("disc.iso")], &format!("file:{}", peer.url("SHA256SUMS")));
    assert!(config.prepare(bench.prepare_context()).await.is_empty());
    assert_eq!(config.digest(bench.context()).await.unwrap().as_deref(), Some(SUM));
    assert_eq!(config.fetch(bench.context()).await.unwrap().path, cached(&bench, NAME));
    assert_eq!(peer.log(), ["GET /SHA256SUMS", "HEAD /disc.iso", "GET /disc.iso"]);
    let missing = iso(&[peer.url("disc.iso")], &format!("file:{}", peer.url("nowhere")));
    let found = missing.prepare(bench.prepare_context()).await;
    let text = format!(
        "Error downloading checksum file: bad response code: 404 in \"file:{}\"",
        peer.url("nowhere")
    );
    assert_eq!(found.iter().next().unwrap().summary, text);
}

#[tokio::test]
async fn the_last_server_that_gives_parts_serves_the_machine() {
    let (bench, good) = (Bench::new(), Peer::disc().await);
    let bad = Peer::new(|_| reply("HTTP/1.1 200 OK\r\nContent-Length: 9", b"")).await;
    let places = [good.url("a.iso"), good.url("b.iso"), bad.url("c.iso"), "d.iso".to_owned()];
    assert_eq!(iso(&places, "none").byte_serving_url(bench.context()).await.unwrap(), good.url("b.iso"));
    assert_eq!(good.log(), ["HEAD /a.iso", "HEAD /b.iso"]);
    let error = iso(&places[2..], "none").byte_serving_url(bench.context()).await.unwrap_err();
    assert_eq!(error.message(), "No byte serving support. The HTTP server must support Accept-Ranges=bytes");
}
