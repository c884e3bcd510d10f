//! Memory while large files move: alone in its process, because it is the process that is measured.
#![cfg(all(target_os = "linux", feature = "ssh", feature = "testing"))]
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    reason = "tests stop at the first surprise"
)]

use packer_core::testing::Bench;
use packer_core::testing::sshd::Sshd;
use packer_core::{Source, Target};
use tokio::io::AsyncReadExt;

const SIZE: u64 = 256 << 20;
/// 64 requests of 255 KiB are on the way, some of them twice while they are encoded and encrypted.
const MOST_KIB: u64 = 96 << 10;

#[tokio::test(flavor = "multi_thread")]
async fn large_files_pass_through_little_memory() {
    for lines in [&["Subsystem sftp internal-sftp"][..], &[]] {
        let Some(server) = Sshd::with(lines) else { return };
        let bench = Bench::new();
        let cx = bench.context();
        let machine = server.config().connect(cx, &Target::default()).await.unwrap();
        let before = peak_kib();
        let mut zeros = tokio::io::repeat(0).take(SIZE);
        let source = Source::Reader { reader: &mut zeros, size: Some(SIZE), mode: None };
        machine.upload(cx, source, "/dev/null").await.unwrap();
        let upload = peak_kib() - before;
        assert!(upload < MOST_KIB, "an upload of {SIZE} bytes took {upload} KiB");

        let file = server.scratch().join("sparse");
        std::fs::File::create(&file).unwrap().set_len(SIZE).unwrap();
        let mut sink = tokio::io::sink();
        machine.download(cx, file.to_str().unwrap(), &mut sink).await.unwrap();
        let both = peak_kib() - before;
        assert!(both < MOST_KIB, "a download of {SIZE} bytes took {both} KiB");
    }
}

/// The most memory that this process has had.
fn peak_kib() -> u64 {
    let status = std::fs::read_to_string("/proc/self/status").unwrap();
    let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:")).unwrap();
    line.trim().trim_end_matches(" kB").parse().unwrap()
}
