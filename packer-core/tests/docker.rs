//! The Docker client and communicator against a real engine.
#![cfg(all(feature = "docker", feature = "testing", target_os = "linux"))]
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    reason = "tests stop at the first surprise"
)]

use std::time::Duration;

use packer_core::communicator::docker::{DockerCommunicator, Options};
use packer_core::docker::Client;
use packer_core::testing::dockerd::{Dockerd, IMAGE};
use packer_core::testing::{Bench, communicator};
use packer_core::{Communicator, CommunicatorExt, Context, Fault, Globs, Source};

/// One engine for all: starting one takes a second.
#[tokio::test(flavor = "multi_thread")]
async fn containers() {
    let Some(mut engine) = Dockerd::start() else { return };
    let bench = Bench::with_host(engine.host());
    let cx = bench.context();
    let client = Client::connect(cx.host()).await.unwrap();
    suite(&engine, &client, cx).await;
    owners(&engine, &client, cx).await;
    links(&engine, &client, cx).await;
    terminal(&engine, &client, cx).await;
    large_in_little_memory(&engine, &client, cx).await;
    ended(&engine, &client, cx).await;
    engine_dies(&mut engine, &client, cx).await;
}

fn run(engine: &Dockerd, more: &[&str]) -> String {
    let mut arguments = vec!["run", "-d", "-i", "-t", "--network", "none", "--entrypoint=/bin/sh"];
    arguments.extend(more);
    arguments.push(IMAGE);
    engine.docker(&arguments)
}

async fn enter(client: &Client, id: &str, options: Options) -> DockerCommunicator {
    DockerCommunicator::connect(client.clone(), id, options).await.unwrap()
}

async fn suite(engine: &Dockerd, client: &Client, cx: &Context) {
    let id = run(engine, &[]);
    communicator::suite(&enter(client, &id, Options::default()).await, cx).await;
    engine.docker(&["rm", "-f", &id]);
}

async fn owners(engine: &Dockerd, client: &Client, cx: &Context) {
    let id = run(engine, &["-u", "app"]);
    let owner = async |inside: &DockerCommunicator, path: &str| {
        let shown = inside.output(cx, &format!("stat -c %U:%G {path}")).await.unwrap();
        shown.text()
    };
    let folder = packer_core::testing::TempFolder::new();
    std::fs::create_dir(folder.path().join("d")).unwrap();
    std::fs::write(folder.path().join("d/f"), "x").unwrap();
    let inside = enter(client, &id, Options::default()).await;
    inside.upload_bytes(cx, b"x", "/tmp/a").await.unwrap();
    inside.upload_file(cx, &folder.path().join("d/f"), "/tmp/b").await.unwrap();
    inside.upload_dir(cx, &folder.path().join("d"), "/tmp", &Globs::none()).await.unwrap();
    let mut reader = std::io::Cursor::new(b"abc".to_vec());
    inside.upload(cx, Source::reader(&mut reader), "/tmp/c").await.unwrap();
    for path in ["/tmp/a", "/tmp/b", "/tmp/c", "/tmp/d", "/tmp/d/f"] {
        assert!(owner(&inside, path).await.starts_with("app:"), "{path}: {}", owner(&inside, path).await);
    }
    let mut as_root = Options::default();
    as_root.exec_user = "root".into();
    let inside = enter(client, &id, as_root).await;
    assert_eq!(inside.output(cx, "id -un").await.unwrap().text(), "root");
    inside.upload_bytes(cx, b"x", "/root/e").await.unwrap();
    assert_eq!(owner(&inside, "/root/e").await, "root:root");
    let mut kept = Options::default();
    kept.keep_upload_owner = true;
    let inside = enter(client, &id, kept).await;
    let local = folder.path().join("d/f");
    std::os::unix::fs::chown(&local, Some(4321), Some(8765)).unwrap();
    inside.upload_file(cx, &local, "/tmp/g").await.unwrap();
    assert_eq!(inside.output(cx, "stat -c %u:%g /tmp/g").await.unwrap().text(), "4321:8765");
    // A user who comes into being later.
    let mut late = Options::default();
    late.exec_user = "late".into();
    let inside = enter(client, &id, late).await;
    engine.docker(&["exec", "-u", "root", &id, "sh", "-c", "echo late:x:7:7::/:/bin/sh >> /etc/passwd"]);
    inside.upload_bytes(cx, b"x", "/tmp/h").await.unwrap();
    assert!(owner(&inside, "/tmp/h").await.starts_with("late:"));
    engine.docker(&["rm", "-f", &id]);
}

async fn links(engine: &Dockerd, client: &Client, cx: &Context) {
    let id = run(engine, &[]);
    let inside = enter(client, &id, Options::default()).await;
    let make = "mkdir -p /l/d && echo far > /l/d/target && ln -s d/target /l/near && ln -s /l/near /l/twice && ln -s loop /l/loop && ln -s d /l/dir";
    assert!(inside.output(cx, make).await.unwrap().status.success());
    for path in ["/l/near", "/l/twice", "l/twice", "/l/dir/target"] {
        assert_eq!(inside.read(cx, path).await.unwrap(), b"far\n", "{path}");
    }
    let error = inside.read(cx, "/l/loop").await.unwrap_err();
    assert!(error.message().contains("too many links"), "{error}");
    let to = packer_core::testing::TempFolder::new();
    inside.download_dir(cx, "/l/", to.path(), &Globs::new(["loop"]).unwrap()).await.unwrap();
    assert_eq!(std::fs::read_link(to.path().join("near")).unwrap().to_str(), Some("d/target"));
    assert_eq!(std::fs::read(to.path().join("near")).unwrap(), b"far\n");
    let to = packer_core::testing::TempFolder::new();
    inside.download_dir(cx, "/l/d*", to.path(), &Globs::none()).await.unwrap();
    assert!(to.path().join("d/target").is_file() && to.path().join("dir").is_symlink());
    // An upload into a link to a folder goes where it leads.
    inside.upload_dir(cx, &to.path().join("d"), "/l/dir", &Globs::none()).await.unwrap();
    assert_eq!(inside.read(cx, "/l/d/d/target").await.unwrap(), b"far\n");
    engine.docker(&["rm", "-f", &id]);
}

async fn terminal(engine: &Dockerd, client: &Client, cx: &Context) {
    let id = run(engine, &[]);
    let mut options = Options::default();
    options.pty = true;
    let inside = enter(client, &id, options).await;
    let output = inside.output(cx, "tty; echo err >&2; exit 4").await.unwrap();
    assert!(output.text().starts_with("/dev/pts/") && output.text().ends_with("err"), "{output:?}");
    assert_eq!(output.status.code(), 4);
    engine.docker(&["rm", "-f", &id]);
}

/// Both ways 256 MiB, while the process grows by far less.
async fn large_in_little_memory(engine: &Dockerd, client: &Client, cx: &Context) {
    let id = run(engine, &[]);
    let inside = enter(client, &id, Options::default()).await;
    let folder = packer_core::testing::TempFolder::new();
    let file = folder.path().join("large");
    std::fs::File::create(&file).unwrap().set_len(256 << 20).unwrap();
    let before = resident();
    inside.upload_file(cx, &file, "/large").await.unwrap();
    let mut sink = tokio::io::sink();
    inside.download(cx, "/large", &mut sink).await.unwrap();
    inside.upload_dir(cx, folder.path(), "/folder", &Globs::none()).await.unwrap();
    let grown = resident().saturating_sub(before);
    assert!(grown < 64 << 20, "the process grew by {} MiB", grown >> 20);
    engine.docker(&["rm", "-f", &id]);
}

/// The most memory this process had, in bytes.
fn resident() -> u64 {
    let status = std::fs::read_to_string("/proc/self/status").unwrap();
    let line = status.lines().find(|line| line.starts_with("VmHWM:")).unwrap();
    line.split_whitespace().nth(1).unwrap().parse::<u64>().unwrap() * 1024
}

/// What has ended, or is not there, is said at once.
async fn ended(engine: &Dockerd, client: &Client, cx: &Context) {
    let id =
        engine.docker(&["run", "-d", "--network", "none", "--entrypoint=/bin/sh", IMAGE, "-c", "exit 9"]);
    engine.docker(&["wait", &id]);
    let inside = enter(client, &id, Options::default()).await;
    let error = inside.output(cx, "true").await.unwrap_err();
    assert!(error.message().ends_with("has ended with exit code 9"), "{error}");
    assert!(!error.is_retryable());
    engine.docker(&["rm", "-f", &id]);
    let error = inside.output(cx, "true").await.unwrap_err();
    assert!(error.message().ends_with("is gone"), "{error}");
    let error = DockerCommunicator::connect(client.clone(), &id, Options::default()).await.unwrap_err();
    assert_eq!(error.fault(), Fault::User, "{error}");
    let id = run(engine, &[]);
    let inside = enter(client, &id, Options::default()).await;
    let error = inside.upload_bytes(cx, b"x", "/no/such/file").await.unwrap_err();
    assert!(error.message().contains("Could not find the file /no/such"), "{error}");
    inside.output(cx, "mkdir /srv").await.unwrap();
    assert!(inside.upload_bytes(cx, b"x", "/srv").await.is_err(), "a folder does not become a file");
    engine.docker(&["rm", "-f", &id]);
    let mut nobody = Options::default();
    nobody.exec_user = "nobody-here".into();
    let id = run(engine, &[]);
    let inside = enter(client, &id, nobody).await;
    let shown = match inside.output(cx, "true").await {
        Ok(output) => format!("{} {}", output.status.code(), String::from_utf8_lossy(&output.stdout)),
        Err(e) => e.to_string(),
    };
    assert!(shown.contains("nobody-here"), "{shown}");
    engine.docker(&["rm", "-f", &id]);
}

async fn engine_dies(engine: &mut Dockerd, client: &Client, cx: &Context) {
    let id = run(engine, &[]);
    let inside = enter(client, &id, Options::default()).await;
    let running = inside.output(cx, "sleep 60");
    let killing = async {
        tokio::time::sleep(Duration::from_millis(300)).await;
        tokio::task::block_in_place(|| engine.kill());
    };
    let limit = Duration::from_secs(20);
    let (result, ()) = tokio::time::timeout(limit, async { tokio::join!(running, killing) }).await.unwrap();
    let status = result.unwrap().status;
    assert_eq!(status, packer_core::ExitStatus::Disconnected);
    let error = Client::connect(cx.host()).await.unwrap_err();
    assert!(error.message().starts_with("cannot reach the Docker engine at unix://"), "{error}");
    tokio::task::block_in_place(|| engine.restart());
    Client::connect(cx.host()).await.unwrap();
}
