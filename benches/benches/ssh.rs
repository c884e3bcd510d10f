//! Files over SSH beside OpenSSH's `scp`, by turns on one server of this computer: `cargo bench --bench ssh [-- MIB]`.

#![allow(
    clippy::unwrap_used,
    clippy::print_stdout,
    reason = "a bench prints, and stops at the first surprise"
)]

use std::path::Path;
use std::time::{Duration, Instant};

use packer_core::testing::sshd::Sshd;
use packer_core::testing::{Bench, require};
use packer_core::{CommunicatorExt, Globs, Target};

const ROUNDS: usize = 3;
const SMALL_FILES: usize = 2000;

#[tokio::main]
async fn main() {
    let mib = std::env::args().skip(1).find_map(|argument| argument.parse().ok()).unwrap_or(256_usize);
    let (Some(server), Some(scp)) = (Sshd::start(), require("scp")) else { return };
    let bench = Bench::new();
    let cx = bench.context();
    let machine = server.config().connect(cx, &Target::default()).await.unwrap();
    let scp = async |arguments: &[&str]| {
        let status = tokio::process::Command::new(&scp)
            .args([
                "-q",
                "-o",
                "StrictHostKeyChecking=no",
                "-o",
                "UserKnownHostsFile=/dev/null",
                "-o",
                "LogLevel=ERROR",
            ])
            .args(["-P", &server.port().to_string(), "-i"])
            .arg(server.key())
            .args(arguments)
            .status()
            .await;
        assert!(status.unwrap().success());
    };
    let folder = server.scratch();
    let (local, remote) = (folder.join("local"), folder.join("remote").display().to_string());
    std::fs::write(&local, noise(mib << 20)).unwrap();
    let many = folder.join("many");
    std::fs::create_dir(&many).unwrap();
    for i in 0..SMALL_FILES {
        std::fs::write(many.join(i.to_string()), noise(1000)).unwrap();
    }

    let (local_text, many_text) = (local.display().to_string(), many.display().to_string());
    let there = format!("{}@127.0.0.1:{remote}", server.user());
    let mut times: [Vec<Duration>; 6] = Default::default();
    for _ in 0..ROUNDS {
        times[0].push(timed(async { machine.upload_file(cx, &local, &remote).await.unwrap() }).await);
        times[1].push(timed(scp(&[&local_text, &there])).await);
        let down = folder.join("down");
        let mut sink = tokio::fs::File::create(&down).await.unwrap();
        times[2].push(timed(async { machine.download(cx, &remote, &mut sink).await.unwrap() }).await);
        times[3].push(timed(scp(&[&there, down.to_str().unwrap()])).await);
        let into = server.scratch().display().to_string();
        let none = Globs::none();
        times[4].push(
            timed(async { machine.upload_dir(cx, Path::new(&many), &into, &none).await.unwrap() }).await,
        );
        let into = server.scratch().display().to_string();
        times[5].push(timed(scp(&["-r", &many_text, &format!("{}@127.0.0.1:{into}", server.user())])).await);
    }
    let [upload, scp_upload, download, scp_download, dir, scp_dir] = times.map(median);
    let rate = |time: Duration| mib as f64 / time.as_secs_f64();
    println!("upload {mib} MiB:      {:7.0} MiB/s, scp {:7.0} MiB/s", rate(upload), rate(scp_upload));
    println!("download {mib} MiB:    {:7.0} MiB/s, scp {:7.0} MiB/s", rate(download), rate(scp_download));
    println!(
        "upload {SMALL_FILES} files: {:7.3} s,     scp {:7.3} s",
        dir.as_secs_f64(),
        scp_dir.as_secs_f64()
    );
}

async fn timed(work: impl Future<Output = ()>) -> Duration {
    let began = Instant::now();
    work.await;
    began.elapsed()
}

fn median(mut times: Vec<Duration>) -> Duration {
    times.sort();
    times[times.len() / 2]
}

/// Bytes that do not compress, the same each time.
fn noise(size: usize) -> Vec<u8> {
    let mut state = 0x9e37_79b9_7f4a_7c15_u64;
    let mut next = || {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        state.to_le_bytes()
    };
    let mut bytes = Vec::with_capacity(size + 8);
    while bytes.len() < size {
        bytes.extend_from_slice(&next());
    }
    bytes.truncate(size);
    bytes
}
