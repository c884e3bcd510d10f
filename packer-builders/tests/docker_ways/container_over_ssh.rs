//! `communicator = "ssh"`: the container runs a server, and is entered at the address that it has in the engine's network.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::process::Command;

use packer_builders::Docker;
use packer_core::communicator::CommunicatorConfig;
use packer_core::testing::dockerd::Dockerd;
use packer_core::testing::sshd::Sshd;
use packer_core::testing::{require, rootfs};

use crate::{block_on, fails, made, nothing_is_left, shows_its_work};

const IMAGE: &str = "packer-test/sshd:1";

/// Copies a program with the libraries that it loads, each to its own place.
fn copy_program(root: &Path, program: &Path) {
    let listed = Command::new("ldd").arg(program).output().unwrap();
    let listed = String::from_utf8_lossy(&listed.stdout).into_owned();
    let words = listed.split_whitespace().filter(|word| word.starts_with('/')).map(PathBuf::from);
    let files: BTreeSet<PathBuf> = words.chain([program.to_path_buf()]).collect();
    for file in files {
        let to = root.join(file.strip_prefix("/").unwrap());
        std::fs::create_dir_all(to.parent().unwrap()).unwrap();
        std::fs::copy(&file, to).unwrap();
    }
}

/// An image with the server that these keys and users are of. It runs where the container's command says so.
fn make_image(engine: &Dockerd, keys: &Sshd) -> Option<()> {
    let (sshd, busybox) = (require("sshd")?, require("busybox")?);
    let root = engine.path().join("sshd");
    rootfs::fill(&root, &busybox);
    copy_program(&root, &sshd);
    // Newer servers have programs of their own for each connection.
    let beside =
        std::fs::read_dir("/usr/lib/openssh").into_iter().flatten().flatten().map(|entry| entry.path());
    for helper in beside.filter(|path| path.to_string_lossy().contains("/sshd-")) {
        copy_program(&root, &helper);
    }
    for folder in ["run/sshd", "root/.ssh", "etc/ssh"] {
        std::fs::create_dir_all(root.join(folder)).unwrap();
    }
    std::fs::copy(keys.file("host"), root.join("etc/ssh/host")).unwrap();
    std::fs::copy(keys.file("id.pub"), root.join("root/.ssh/authorized_keys")).unwrap();
    let mut users = std::fs::read_to_string(root.join("etc/passwd")).unwrap();
    users.push_str("sshd:x:100:65534::/run/sshd:/bin/false\n");
    std::fs::write(root.join("etc/passwd"), users).unwrap();
    let config = "HostKey /etc/ssh/host\nStrictModes no\nUsePAM no\nSubsystem sftp internal-sftp\nPidFile none\nSetEnv PATH=/bin\n";
    std::fs::write(root.join("etc/ssh/config"), config).unwrap();
    engine.import(&root, IMAGE);
    std::fs::remove_dir_all(&root).unwrap();
    Some(())
}

/// Starts the server on this port; it must have the key that it has.
fn docker(keys: &Sshd, port: u16) -> Docker {
    let listen = format!("-p{port}");
    let server = [
        "-d",
        "--entrypoint=/usr/sbin/sshd",
        "--",
        "{{.Image}}",
        "-D",
        "-e",
        "-f",
        "/etc/ssh/config",
        &listen,
    ];
    let mut docker = Docker::image(IMAGE).no_pull().run_command(server);
    docker.communicator = CommunicatorConfig::ssh("root").key_file(keys.key().display().to_string());
    docker.communicator.ssh_host_key = Some(keys.host_key());
    docker
}

#[test]
fn a_container_is_entered_over_ssh() {
    let Some(keys) = Sshd::prepare(&[]) else { return };
    let Some(engine) = Dockerd::start() else { return };
    if make_image(&engine, &keys).is_none() {
        return;
    }
    let before = engine.inventory();
    engine.inside(|| {
        block_on(async {
            let host = engine.host();
            let (artifact, recorder) = made(&host, docker(&keys, 22).commit()).await;
            shows_its_work(&engine, &artifact.id);
            let lines = recorder.lines();
            let after = |start: &str| lines.iter().find_map(|line| line.strip_prefix(start)).unwrap();
            let address = after("Using SSH communicator to connect: ");
            // The server's own view: who came from which port, to which address and port.
            let connection: Vec<&str> = after("connection: ").split(' ').collect();
            assert_eq!(connection[2..], [address, "22"]);
            assert!(!address.starts_with("127."), "{address}");

            let mut by_sftp = docker(&keys, 2222).discard();
            by_sftp.communicator.ssh_port = Some(2222);
            by_sftp.communicator.ssh_file_transfer_method = Some("sftp".to_owned());
            made(&host, by_sftp).await;

            let mut refused = docker(&keys, 22).discard();
            refused.communicator.ssh_private_key_file = Some(keys.file("host_rsa").display().to_string());
            refused.communicator.ssh_handshake_attempts = 1;
            let error = fails(&host, refused).await;
            assert!(
                error.message().contains("\"root\" on 172.") && error.message().contains("was refused"),
                "{error}"
            );
            let mut another = docker(&keys, 22).discard();
            another.communicator.ssh_host_key = Some(std::fs::read_to_string(keys.file("id.pub")).unwrap());
            let error = fails(&host, another).await;
            assert!(error.message().starts_with("the host key of 172."), "{error}");
        });
    });
    nothing_is_left(&engine, &before);
}
