//! `DOCKER_HOST=ssh://…`: the user's own `ssh` leads to an engine behind a real server.

use std::os::unix::fs::PermissionsExt;
use std::path::Path;

use packer_core::testing::dockerd::Dockerd;
use packer_core::testing::sshd::Sshd;
use packer_core::testing::{builder, require};
use packer_core::{Fault, Host};

use crate::{base, fails, made, nothing_is_left, registry, shows_its_work};

/// A server where `docker` finds the engine.
fn server(engine: &Dockerd) -> Option<Sshd> {
    let server = Sshd::with(&["PermitUserEnvironment DOCKER_HOST"])?;
    let key = std::fs::read_to_string(server.file("authorized")).unwrap();
    let line = format!("environment=\"DOCKER_HOST={}\" {key}", engine.address());
    std::fs::write(server.file("authorized"), line).unwrap();
    Some(server)
}

/// A host whose `ssh` has this configuration. It asks the system for the user's home, so that another `HOME` would not do.
fn host(engine: &Dockerd, server: &Sshd, ssh: &Path, name: &str, key: &Path, known: &str) -> Host {
    let folder = engine.path().join(name);
    std::fs::create_dir(&folder).unwrap();
    let at = folder.display();
    std::fs::write(folder.join("known"), known).unwrap();
    let config = format!(
        "IdentityFile {}\nIdentitiesOnly yes\nIdentityAgent none\nUserKnownHostsFile {at}/known\nGlobalKnownHostsFile none\n\
         StrictHostKeyChecking yes\nPreferredAuthentications publickey\nBatchMode yes\n",
        key.display()
    );
    std::fs::write(folder.join("config"), config).unwrap();
    let program = folder.join("ssh");
    let script = format!("#!/bin/sh\nexec {} -F '{at}/config' \"$@\"\n", ssh.display());
    std::fs::write(&program, script).unwrap();
    std::fs::set_permissions(&program, PermissionsExt::from_mode(0o755)).unwrap();
    let mut host = engine.host();
    let path = format!("{at}:{}", host.env["PATH"]);
    host.env.insert("PATH".to_owned(), path);
    host.env.insert("DOCKER_HOST".to_owned(), address(server));
    host
}

fn address(server: &Sshd) -> String {
    format!("ssh://{}@127.0.0.1:{}", server.user(), server.port())
}

/// The lines of processes that lead to the server.
fn lines_to(server: &Sshd) -> Vec<String> {
    let processes = std::fs::read_dir("/proc").unwrap().flatten();
    // Some end meanwhile.
    let command = processes.map(|process| std::fs::read(process.path().join("cmdline")).unwrap_or_default());
    let command = command.map(|line| String::from_utf8_lossy(&line).replace('\0', " "));
    command.filter(|line| line.contains(&format!("-p {} ", server.port()))).collect()
}

fn no_line_is_left(server: &Sshd) {
    let end = std::time::Instant::now() + std::time::Duration::from_secs(10);
    while !lines_to(server).is_empty() {
        assert!(std::time::Instant::now() < end, "{:?}", lines_to(server));
        std::thread::sleep(std::time::Duration::from_millis(20));
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn ssh_leads_to_an_engine_or_says_why_not() {
    let Some(ssh) = require("ssh") else { return };
    let Some(engine) = Dockerd::start() else { return };
    let Some(server) = server(&engine) else { return };
    let before = engine.inventory();
    let known = format!("[127.0.0.1]:{} {}\n", server.port(), server.host_key());

    let friend = host(&engine, &server, &ssh, "friend", &server.key(), &known);
    let (artifact, _) = made(&friend, base().commit()).await;
    shows_its_work(&engine, &artifact.id);
    builder::recovers(|| base().commit(), &registry(), &friend).await;
    no_line_is_left(&server);

    // A key that the server does not know, a server that we do not know, and a server where no engine is.
    let stranger = host(&engine, &server, &ssh, "stranger", &server.file("host_rsa"), &known);
    let unsure = host(&engine, &server, &ssh, "unsure", &server.key(), "");
    let refused = format!("{}@127.0.0.1: Permission denied (", server.user());
    for (host, reason) in [(&stranger, refused.as_str()), (&unsure, "Host key verification failed.")] {
        let error = fails(host, base().commit()).await;
        let told = format!("cannot reach the Docker engine at {}: ", address(&server));
        assert!(error.message().starts_with(&told) && error.message().contains(reason), "{error}");
        assert_eq!(error.fault(), Fault::Network);
    }
    let key = std::fs::read_to_string(server.file("id.pub")).unwrap();
    let nowhere = format!("environment=\"DOCKER_HOST=unix:///no/such.sock\" {key}");
    std::fs::write(server.file("authorized"), nowhere).unwrap();
    let error = fails(&friend, base().commit()).await;
    assert!(error.message().contains("/no/such.sock"), "{error}");
    no_line_is_left(&server);
    nothing_is_left(&engine, &before);
}
