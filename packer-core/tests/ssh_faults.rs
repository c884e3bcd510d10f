//! What goes wrong on the way into a machine and with its files: lines that break, servers that are full, disks that are full.
#![cfg(all(target_os = "linux", feature = "ssh", feature = "testing"))]
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    reason = "tests stop at the first surprise"
)]

use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use packer_core::testing::sshd::Sshd;
use packer_core::testing::{Bench, require, skip};
use packer_core::{CommunicatorConfig, CommunicatorExt, Globs, GoDuration, Host, Target};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};

/// By SFTP, by scp where there is nothing else, and by `cat` and `tar` where there is neither.
const WAYS: [&[&str]; 3] = [
    &["Subsystem sftp internal-sftp"],
    &[],
    &[
        "ForceCommand case \"$SSH_ORIGINAL_COMMAND\" in scp\\ *) exit 127;; *) eval \"$SSH_ORIGINAL_COMMAND\";; esac",
    ],
];

/// Leads to a server, and breaks the first connections once the machine has said this much.
async fn breaking(to: u16, after: Vec<usize>) -> u16 {
    let listener = TcpListener::bind(("127.0.0.1", 0)).await.unwrap();
    let port = listener.local_addr().unwrap().port();
    tokio::spawn(async move {
        let mut after = after.into_iter();
        while let Ok((mut here, _)) = listener.accept().await {
            let most = after.next().unwrap_or(usize::MAX);
            tokio::spawn(async move {
                let Ok(mut there) = TcpStream::connect(("127.0.0.1", to)).await else { return };
                let (mut from_here, mut to_here) = here.split();
                let (mut from_there, mut to_there) = there.split();
                let up = tokio::io::copy(&mut from_here, &mut to_there);
                let down = async {
                    let (mut left, mut piece) = (most, vec![0; 65_536]);
                    while left > 0 {
                        let read = from_there.read(&mut piece[..left.min(65_536)]).await.unwrap_or(0);
                        if read == 0 || to_here.write_all(&piece[..read]).await.is_err() {
                            break;
                        }
                        left -= read;
                    }
                };
                tokio::select! { _ = up => {}, () = down => {} }
            });
        }
    });
    port
}

#[tokio::test(flavor = "multi_thread")]
async fn a_line_that_breaks_anywhere_in_the_handshake_and_the_login_is_tried_again() {
    let Some(server) = Sshd::start() else { return };
    let bench = Bench::new();
    // Within the banner, the offers, the exchange of keys and what follows it, the login.
    for after in [0, 5, 40, 200, 900, 1200, 1500, 1700, 1900, 2100, 2300, 2500] {
        let port = breaking(server.port(), vec![after]).await;
        let mut config = server.config().port(port);
        config.ssh_timeout = GoDuration::from_secs(60);
        let machine = config.connect(bench.context(), &Target::default()).await;
        let machine = machine.unwrap_or_else(|e| panic!("{after}: {e}"));
        assert_eq!(machine.output(bench.context(), "echo in").await.unwrap().text(), "in", "{after}");
    }
    // A line that breaks each time ends with the limit, and says where.
    let port = breaking(server.port(), vec![900; 100_000]).await;
    let mut config = server.config().port(port);
    config.ssh_timeout = GoDuration::from_secs(3);
    let began = Instant::now();
    let error = config.connect(bench.context(), &Target::default()).await.map(drop).unwrap_err().to_string();
    assert!(began.elapsed() < Duration::from_secs(30));
    assert!(error.contains(&format!("127.0.0.1:{port}")), "{error}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_server_that_takes_few_newcomers_takes_all_in_the_end() {
    let Some(server) = Sshd::with(&["MaxStartups 1", "MaxSessions 1"]) else { return };
    let bench = Arc::new(Bench::new());
    let mut all = Vec::new();
    let inside = Arc::new(AtomicUsize::new(0));
    for _ in 0..8 {
        let mut config = server.config();
        config.ssh_timeout = GoDuration::from_secs(120);
        let (bench, inside) = (bench.clone(), inside.clone());
        all.push(tokio::spawn(async move {
            let cx = bench.context();
            let machine = config.connect(cx, &Target::default()).await.map_err(|e| e.to_string())?;
            inside.fetch_add(1, Ordering::Relaxed);
            machine.output(cx, "echo in").await.map(|output| output.text()).map_err(|e| e.to_string())
        }));
    }
    for one in all {
        assert_eq!(one.await.unwrap(), Ok("in".into()), "{inside:?} are in");
    }
}

/// A folder on a disk of this many bytes, which goes with it.
struct SmallDisk(PathBuf);

impl SmallDisk {
    fn new(folder: &Path, bytes: usize) -> Option<Self> {
        let mount = require("mount")?;
        std::fs::create_dir_all(folder).unwrap();
        let option = format!("size={bytes}");
        let mounted =
            Command::new(mount).args(["-t", "tmpfs", "-o", &option, "none"]).arg(folder).output().unwrap();
        if !mounted.status.success() {
            skip("root, to mount a small disk");
            return None;
        }
        Some(Self(folder.to_path_buf()))
    }

    fn names(&self) -> Vec<String> {
        let entries = std::fs::read_dir(&self.0).unwrap();
        entries.map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect()
    }
}

impl Drop for SmallDisk {
    fn drop(&mut self) {
        let _ = Command::new("umount").arg("-l").arg(&self.0).status();
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_full_disk_on_either_side_is_an_error_that_says_so_and_leaves_nothing_behind() {
    for lines in WAYS {
        let Some(server) = Sshd::with(lines) else { return };
        let Some(disk) = SmallDisk::new(&server.file("small"), 1 << 20) else { return };
        let bench = Bench::new();
        let cx = bench.context();
        let machine = server.config().connect(cx, &Target::default()).await.unwrap();
        let (large, folder) = (server.scratch().join("large"), server.scratch().join("folder"));
        std::fs::write(&large, vec![7; 8 << 20]).unwrap();
        std::fs::create_dir(&folder).unwrap();
        std::fs::copy(&large, folder.join("large")).unwrap();

        // The machine's: an error of the kind, and no half file.
        let there = disk.0.join("there").display().to_string();
        let error = machine.upload_file(cx, &large, &there).await.unwrap_err().to_string();
        assert!(
            error.contains("there") && error.to_lowercase().contains("no space left"),
            "{lines:?}: {error}"
        );
        // scp knows no renaming.
        if !lines.is_empty() {
            assert_eq!(disk.names(), [""; 0], "{lines:?}: {error}");
        }
        machine.output(cx, &format!("rm -f {there}")).await.unwrap();
        let error =
            machine.upload_dir(cx, &folder, disk.0.to_str().unwrap(), &Globs::none()).await.unwrap_err();
        assert!(
            error.to_string().contains("large") || error.to_string().contains("small"),
            "{lines:?}: {error}"
        );
        machine.output(cx, &format!("rm -rf {}/*", disk.0.display())).await.unwrap();

        // This computer's.
        let error =
            machine.download_dir(cx, folder.to_str().unwrap(), &disk.0, &Globs::none()).await.unwrap_err();
        assert!(error.to_string().contains("no space left on device"), "{lines:?}: {error}");
        assert!(!disk.0.join("folder/large").exists(), "{lines:?}: half a file stays");
        machine.output(cx, &format!("rm -rf {}/*", disk.0.display())).await.unwrap();
        let mut sink = tokio::fs::File::create(disk.0.join("here")).await.unwrap();
        let error = machine.download(cx, large.to_str().unwrap(), &mut sink).await.unwrap_err();
        assert!(error.to_string().contains("no space left on device"), "{lines:?}: {error}");
        // The way in is as good as before.
        assert_eq!(machine.output(cx, "echo in").await.unwrap().text(), "in");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn folders_that_lie_too_deep_in_each_other_are_an_error_before_anything_is_copied() {
    let Some(server) = Sshd::start() else { return };
    let bench = Bench::new();
    let cx = bench.context();
    let machine = server.config().connect(cx, &Target::default()).await.unwrap();
    let (from, to) = (server.scratch(), server.scratch());
    std::fs::create_dir_all(from.join("d/".repeat(1100))).unwrap();
    let error = machine.download_dir(cx, from.to_str().unwrap(), &to, &Globs::none()).await.unwrap_err();
    assert!(error.to_string().ends_with("folders lie deeper than 1000 in each other"), "{error}");
    assert_eq!(std::fs::read_dir(&to).unwrap().count(), 0);
}

/// A peer that accepts all and never says a word; it ends with the listener's task.
async fn silent() -> u16 {
    let listener = TcpListener::bind(("127.0.0.1", 0)).await.unwrap();
    let port = listener.local_addr().unwrap().port();
    tokio::spawn(async move {
        let mut open = Vec::new();
        while let Ok((stream, _)) = listener.accept().await {
            open.push(stream);
        }
    });
    port
}

/// The error of connecting within a few seconds.
async fn given_up(bench: &Bench, config: &CommunicatorConfig) -> String {
    let mut config = config.clone();
    config.ssh_timeout = GoDuration::from_secs(4);
    let began = Instant::now();
    let error = config.connect(bench.context(), &Target::default()).await.map(drop).unwrap_err().to_string();
    assert!(began.elapsed() < Duration::from_secs(30), "{error}");
    error
}

#[tokio::test(flavor = "multi_thread")]
async fn whoever_hangs_on_the_way_is_named() {
    let Some(server) = Sshd::start() else { return };
    let hangs = silent().await;
    let machine = format!("127.0.0.1:{}", server.port());

    for kind in ["socks5", "http"] {
        let mut config = server.config();
        config.ssh_proxy_host = Some("127.0.0.1".into());
        config.ssh_proxy_port = Some(hangs);
        config.ssh_proxy_type = Some(kind.into());
        let error = given_up(&Bench::new(), &config).await;
        let expected = format!("dial {machine} through the proxy 127.0.0.1:{hangs}: no answer");
        assert!(error.contains(&expected), "{error}");
    }

    let mut config = server.config().port(hangs);
    config.ssh_bastion_host = Some("127.0.0.1".into());
    config.ssh_bastion_port = Some(server.port());
    let error = given_up(&Bench::new(), &config).await;
    assert!(error.contains(&format!("127.0.0.1:{hangs}: connected, but no SSH banner came")), "{error}");

    let socket = server.file("agent-that-hangs");
    let _agent = tokio::net::UnixListener::bind(&socket).unwrap();
    let mut host = Host::new();
    host.env.insert("SSH_AUTH_SOCK".into(), socket.display().to_string());
    let mut config = CommunicatorConfig::ssh(server.user()).host("127.0.0.1").port(server.port());
    config.ssh_agent_auth = true;
    let error = given_up(&Bench::with_host(host), &config).await;
    let expected =
        format!("{machine}: the login waits for the SSH agent {}, which does not answer", socket.display());
    assert!(error.contains(&expected), "{error}");
}
