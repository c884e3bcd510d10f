//! The SSH communicator against a real OpenSSH server: the behaviour suite, logging in, waiting, broken connections.
#![cfg(all(unix, feature = "ssh", feature = "testing"))]
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    reason = "tests stop at the first surprise"
)]

use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, Instant};

use packer_core::communicator::HostKeySource;
use packer_core::testing::sshd::{SshAgent, Sshd, SystemUser};
use packer_core::testing::{Bench, communicator, require};
use packer_core::{
    Command, Communicator, CommunicatorConfig, CommunicatorExt, Error, EventKind, ExitStatus, Fault,
    GoDuration, Host, Secret, Target, async_trait,
};

type Machine = Arc<dyn Communicator>;

async fn enter(bench: &Bench, config: &CommunicatorConfig) -> Machine {
    let connected = config.connect(bench.context(), &Target::default()).await;
    connected.unwrap_or_else(|e| panic!("{e}: {:?}", bench.recorder().lines()))
}

async fn refused(bench: &Bench, config: &CommunicatorConfig) -> Error {
    match config.connect(bench.context(), &Target::default()).await {
        Err(error) => error,
        Ok(_) => panic!("let in"),
    }
}

fn millis(millis: i64) -> GoDuration {
    GoDuration::from_nanos(millis * 1_000_000)
}

fn keygen(arguments: &[&str]) {
    let program = require("ssh-keygen").unwrap();
    let output = std::process::Command::new(program).args(arguments).output().unwrap();
    assert!(output.status.success(), "{arguments:?}: {}", String::from_utf8_lossy(&output.stderr));
}

#[tokio::test(flavor = "multi_thread")]
async fn passes_the_behaviour_suite() {
    let Some(server) = Sshd::start() else { return };
    let bench = Bench::new();
    let machine = enter(&bench, &server.config()).await;
    communicator::suite(machine.as_ref(), bench.context()).await;
    let expected = [
        "Using SSH communicator to connect: 127.0.0.1",
        "Waiting for SSH to become available...",
        "Connected to SSH!",
    ];
    assert_eq!(bench.recorder().lines()[..3], expected);
}

#[tokio::test(flavor = "multi_thread")]
async fn passes_the_behaviour_suite_where_the_server_has_no_sftp() {
    let Some(server) = Sshd::with(&[]) else { return };
    let bench = Bench::new();
    let machine = enter(&bench, &server.config()).await;
    communicator::suite(machine.as_ref(), bench.context()).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn passes_the_behaviour_suite_where_the_server_has_neither_sftp_nor_scp() {
    const NO_SCP: &str = "ForceCommand case \"$SSH_ORIGINAL_COMMAND\" in scp\\ *) exit 127;; *) eval \"$SSH_ORIGINAL_COMMAND\";; esac";
    let Some(server) = Sshd::with(&[NO_SCP]) else { return };
    let bench = Bench::new();
    let machine = server.config().connect(bench.context(), &Target::default()).await.unwrap();
    communicator::suite(machine.as_ref(), bench.context()).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn passes_the_behaviour_suite_where_sftp_is_not_installed() {
    let Some(server) = Sshd::with(&["Subsystem sftp /no/such/sftp-server"]) else { return };
    let bench = Bench::new();
    let machine = enter(&bench, &server.config()).await;
    communicator::suite(machine.as_ref(), bench.context()).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn logs_in_with_keys_of_every_kind_and_form() {
    let Some(server) = Sshd::start() else { return };
    let bench = Bench::new();
    for (kind, form) in [
        ("ed25519", "RFC4716"),
        ("rsa", "RFC4716"),
        ("rsa", "PEM"),
        ("rsa", "PKCS8"),
        ("ecdsa", "RFC4716"),
        ("ecdsa", "PEM"),
        ("ecdsa", "PKCS8"),
    ] {
        let file = server.file(&format!("{kind}-{form}"));
        let path = file.to_str().unwrap();
        keygen(&["-q", "-t", kind, "-m", form, "-N", "", "-f", path]);
        std::fs::copy(file.with_extension("pub"), server.file("authorized")).unwrap();
        let machine = enter(&bench, &server.config().key_file(path)).await;
        assert_eq!(
            machine.output(bench.context(), "echo in").await.unwrap().text(),
            "in",
            "{kind} as {form}"
        );
        // The same key as text, as a builder has it that made it.
        let target = Target::default().private_key(std::fs::read_to_string(&file).unwrap());
        let mut config = server.config();
        config.ssh_private_key_file = None;
        config.connect(bench.context(), &target).await.unwrap();
    }
    for form in ["RFC4716", "PEM", "PKCS8"] {
        let path = server.file(&format!("encrypted-{form}")).display().to_string();
        keygen(&["-q", "-t", "rsa", "-b", "2048", "-m", form, "-N", "geheim", "-f", &path]);
        let config = server.config().key_file(&path);
        let findings = config.prepare(bench.prepare_context()).to_string();
        let expected = "ssh_private_key_file is invalid: it is protected by a passphrase";
        assert!(findings.contains(expected), "{form}: {findings}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn logs_in_with_a_certificate_and_refuses_an_expired_one() {
    let Some(mut server) = Sshd::prepare(&["Subsystem sftp internal-sftp"]) else { return };
    let (ca, user_key) = (server.file("ca"), server.file("certified"));
    let (ca_path, key_path) = (ca.to_str().unwrap(), user_key.to_str().unwrap());
    keygen(&["-q", "-t", "ed25519", "-N", "", "-f", ca_path]);
    keygen(&["-q", "-t", "ed25519", "-N", "", "-f", key_path]);
    let authority = std::fs::read_to_string(ca.with_extension("pub")).unwrap();
    std::fs::write(server.file("authorized"), format!("cert-authority {authority}")).unwrap();
    server.up();
    let bench = Bench::new();
    let certificate = format!("{key_path}-cert.pub");
    let mut config = server.config().key_file(key_path);
    config.ssh_certificate_file = Some(certificate.clone());
    config.ssh_handshake_attempts = 1;
    let public = format!("{key_path}.pub");
    keygen(&["-q", "-s", ca_path, "-I", "t", "-n", &server.user(), "-V", "-2d:-1d", &public]);
    let findings = config.prepare(bench.prepare_context()).to_string();
    assert!(findings.contains("ssh_certificate_file is invalid: the certificate has expired"), "{findings}");
    keygen(&["-q", "-s", ca_path, "-I", "t", "-n", &server.user(), "-V", "-1d:+1d", &public]);
    assert!(config.prepare(bench.prepare_context()).is_empty());
    let machine = enter(&bench, &config).await;
    assert!(machine.output(bench.context(), "true").await.unwrap().status.success());
    // It is the certificate that lets in, not the key.
    config.ssh_certificate_file = None;
    assert!(refused(&bench, &config).await.to_string().contains("was refused"));
}

#[tokio::test(flavor = "multi_thread")]
async fn logs_in_where_several_ways_are_wanted_in_any_order() {
    let Some(user) = SystemUser::with_password("geheim 42") else { return };
    for order in ["publickey,password", "password,publickey"] {
        let lines = [&format!("AuthenticationMethods {order}"), "PasswordAuthentication yes"];
        let Some(server) = Sshd::with(&lines) else { return };
        let bench = Bench::new();
        let mut config = server.config().password("geheim 42");
        config.ssh_username = Some(user.name().into());
        let machine = enter(&bench, &config).await;
        assert_eq!(machine.output(bench.context(), "id -un").await.unwrap().text(), user.name(), "{order}");
        // One of two is not enough, and is not tried for ever.
        config.ssh_password = None;
        config.ssh_handshake_attempts = 1;
        let error = refused(&bench, &config).await.to_string();
        assert!(error.contains("was refused (tried "), "{order}: {error}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn logs_in_with_the_agent() {
    let Some(server) = Sshd::start() else { return };
    let rsa = server.file("agent-rsa");
    keygen(&["-q", "-t", "rsa", "-N", "", "-f", rsa.to_str().unwrap()]);
    for key in [server.key(), rsa] {
        let Some(agent) = SshAgent::start(&[&key]) else { return };
        std::fs::copy(key.with_extension("pub"), server.file("authorized")).unwrap();
        let mut host = Host::new();
        host.env.insert("SSH_AUTH_SOCK".into(), agent.socket().display().to_string());
        let bench = Bench::with_host(host);
        let mut config = CommunicatorConfig::ssh(server.user()).host("127.0.0.1").port(server.port());
        config.ssh_agent_auth = true;
        let machine = enter(&bench, &config).await;
        assert_eq!(machine.output(bench.context(), "echo in").await.unwrap().text(), "in");
        let without = Bench::new();
        let error = refused(&without, &config).await.to_string();
        assert_eq!(error, "Cannot connect to SSH Agent: SSH_AUTH_SOCK is not set");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn logs_in_with_a_password_as_a_user_and_ends_dropped_commands() {
    let lines = ["Subsystem sftp internal-sftp", "PasswordAuthentication yes", "PubkeyAuthentication no"];
    let Some(server) = Sshd::with(&lines) else { return };
    let Some(user) = SystemUser::with_password("geheim 42") else { return };
    let bench = Bench::new();
    let cx = bench.context();
    let mut config = CommunicatorConfig::ssh(user.name()).host("127.0.0.1").port(server.port());
    config.ssh_password = Some(Secret::new("geheim 42"));
    let machine = enter(&bench, &config).await;
    assert_eq!(machine.output(cx, "id -un").await.unwrap().text(), user.name());
    assert_eq!(cx.secrets().scrub("is geheim 42 shown"), "is <sensitive> shown");

    // `~/` and relative paths are in the user's own folder, for files and commands alike.
    machine.upload_bytes(cx, b"home", "~/in home").await.unwrap();
    assert_eq!(std::fs::read(user.home().join("in home")).unwrap(), b"home");
    assert_eq!(machine.read(cx, "in home").await.unwrap(), b"home");

    let mark = user.home().join("pid");
    let endless = machine.output(cx, "echo $$ > pid; exec sleep 600");
    assert!(tokio::time::timeout(Duration::from_secs(2), endless).await.is_err());
    let process = std::fs::read_to_string(mark).unwrap().trim().to_owned();
    let gone = || !Path::new("/proc").join(&process).exists();
    assert!(soon(gone).await, "a command that is dropped ends on the machine too");

    config.ssh_password = Some(Secret::new("wrong"));
    config.ssh_handshake_attempts = 1;
    let error = refused(&bench, &config).await;
    assert_eq!(error.fault(), Fault::User);
    assert!(error.to_string().contains("was refused (tried password, "), "{error}");
    assert!(bench.recorder().lines().last().unwrap().starts_with("Error waiting for SSH: "));
}

async fn soon(mut done: impl FnMut() -> bool) -> bool {
    let deadline = Instant::now() + Duration::from_secs(10);
    while Instant::now() < deadline {
        if done() {
            return true;
        }
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    false
}

#[tokio::test(flavor = "multi_thread")]
async fn waits_until_the_server_is_up_and_gives_up_in_time() {
    let Some(mut server) = Sshd::prepare(&["Subsystem sftp internal-sftp"]) else { return };
    let bench = Bench::new();
    let mut config = server.config();
    config.ssh_timeout = millis(600);
    let began = Instant::now();
    let error = refused(&bench, &config).await;
    let text = error.to_string();
    assert!(text.starts_with("Timeout waiting for SSH. The last attempt: dial 127.0.0.1:"), "{text}");
    let cause = std::error::Error::source(&error).unwrap().to_string();
    assert!(cause.contains("connection refused"), "{cause}");
    assert!(began.elapsed() < Duration::from_secs(5));
    assert_eq!(bench.recorder().lines().last(), Some(&text));

    config.ssh_timeout = GoDuration::ZERO;
    config.pause_before_connecting = millis(10);
    let connecting = tokio::spawn({
        let (cx, config) = (bench.context().clone(), config.clone());
        async move { config.connect(&cx, &Target::default()).await }
    });
    tokio::time::sleep(Duration::from_millis(300)).await;
    assert!(!connecting.is_finished());
    server.up();
    connecting.await.unwrap().unwrap();
    let lines = bench.recorder().lines();
    assert!(lines.contains(&"Pausing 10ms before connecting...".to_owned()), "{lines:?}");
    assert_eq!(lines.iter().filter(|line| *line == "Connected to SSH!").count(), 2);

    server.down();
    let nowhere = Target::default();
    let connecting = config.connect(bench.context(), &nowhere);
    assert!(tokio::time::timeout(Duration::from_millis(50), connecting).await.is_err());
    bench.cancel();
    assert!(refused(&bench, &config).await.is_cancelled());
}

#[tokio::test(flavor = "multi_thread")]
async fn checks_the_host_key_where_it_is_asked_to() {
    let Some(server) = Sshd::start() else { return };
    let bench = Bench::new();
    let known = server.file("known_hosts");
    let fails = async |config: &CommunicatorConfig, why: &str| {
        let began = Instant::now();
        let error = refused(&bench, config).await;
        assert!(error.to_string().contains(why), "{error}");
        assert!(!error.is_retryable() && began.elapsed() < Duration::from_secs(20), "no second try can help");
    };
    let mut config = server.config();
    config.ssh_host_key = Some(server.host_key());
    enter(&bench, &config).await;
    let other = std::fs::read_to_string(server.file("id.pub")).unwrap();
    config.ssh_host_key = Some(other.clone());
    fails(&config, "is not the expected one (that in ssh_host_key").await;

    config.ssh_host_key = None;
    config.ssh_known_hosts_file = Some(known.display().to_string());
    fails(&config, "is not known").await;
    config.ssh_host_key_checking = Some("accept-new".into());
    enter(&bench, &config).await;
    config.ssh_host_key_checking = Some("strict".into());
    enter(&bench, &config).await;

    // The host also has an RSA key, which is asked for where only that is known.
    let rsa = std::fs::read_to_string(server.file("host_rsa.pub")).unwrap();
    std::fs::write(&known, format!("[127.0.0.1]:{} {rsa}", server.port())).unwrap();
    enter(&bench, &config).await;
    std::fs::write(&known, format!("[127.0.0.1]:{} {other}", server.port())).unwrap();
    config.ssh_host_key_checking = Some("accept-new".into());
    fails(&config, "is not the known one").await;
    config.ssh_host_key_checking = Some("none".into());
    enter(&bench, &config).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_machine_is_known_by_the_keys_that_its_builder_knows() {
    let Some(server) = Sshd::start() else { return };
    let other = std::fs::read_to_string(server.file("id.pub")).unwrap();
    let rsa = std::fs::read_to_string(server.file("host_rsa.pub")).unwrap();
    let connect = async |target: &Target, config: &CommunicatorConfig| {
        let bench = Bench::new();
        let result = config.connect(bench.context(), target).await.map(drop).map_err(|e| e.to_string());
        let mut unchecked = Vec::new();
        for event in bench.recorder().events() {
            if let EventKind::HostKeyUnchecked { port, key, .. } = event.kind {
                assert_eq!(port, server.port());
                unchecked.push(key);
            }
        }
        (result, unchecked)
    };
    let config = server.config();
    for known in [Target::default().host_key(server.host_key()), Target::default().host_key(&rsa)] {
        assert_eq!(connect(&known, &config).await, (Ok(()), vec![]));
    }
    let wrong = Target::default().host_key(&other);
    let (result, _) = connect(&wrong, &config).await;
    assert!(result.unwrap_err().contains("or the machine's own as its builder knows it"));
    let (result, _) = connect(&Target::default().host_key("nonsense"), &config).await;
    assert!(result.unwrap_err().contains("the host key that the builder knows is invalid"));
    // What the template says wins.
    let mut said = config.clone();
    said.ssh_host_key_checking = Some("none".into());
    let (result, unchecked) = connect(&wrong, &said).await;
    assert_eq!(result, Ok(()));
    assert!(matches!(&unchecked[..], [key] if key.starts_with("ssh-ed25519 SHA256:")), "{unchecked:?}");
    said.ssh_host_key = unchecked[0].split_once(' ').map(|(_, fingerprint)| fingerprint.to_owned());
    assert_eq!(connect(&wrong, &said).await, (Ok(()), vec![]));
    // Where nobody knows it that is told, once, and not in lines of Packer's layout.
    assert_eq!(connect(&Target::default(), &config).await, (Ok(()), unchecked.clone()));
    // Somebody tells it when the machine has shown its own.
    let told = |keys: &[&str]| {
        let mut target = Target::default();
        target.host_key_source = Some(Arc::new(Later(keys.iter().map(|key| (*key).to_owned()).collect())));
        target
    };
    assert_eq!(connect(&told(&["torn", &other, &rsa, &server.host_key()]), &config).await, (Ok(()), vec![]));
    let (result, _) = connect(&told(&[&other]), &config).await;
    assert!(result.unwrap_err().contains("or the machine's own as its builder knows it"));
    assert_eq!(connect(&told(&["torn"]), &config).await, (Ok(()), unchecked));
    assert_eq!(connect(&told(&[&other]).host_key(server.host_key()), &config).await, (Ok(()), vec![]));
}

/// Knows keys after longer than an attempt is left alone.
#[derive(Debug)]
struct Later(Vec<String>);

#[async_trait]
impl HostKeySource for Later {
    async fn host_keys(&self) -> Vec<String> {
        tokio::time::sleep(Duration::from_secs(5)).await;
        self.0.clone()
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_connection_that_breaks_under_a_command_is_a_status_and_the_next_command_reconnects() {
    let Some(server) = Sshd::start() else { return };
    let bench = Bench::new();
    let cx = bench.context();
    let machine = enter(&bench, &server.config()).await;
    let killed = async {
        tokio::time::sleep(Duration::from_millis(500)).await;
        assert!(server.kill_sessions() > 0);
        Instant::now()
    };
    let (output, at) = tokio::join!(machine.output(cx, "echo before; sleep 600"), killed);
    let output = output.unwrap();
    assert_eq!(output.status, ExitStatus::Disconnected);
    assert_eq!(output.text(), "before");
    assert!(at.elapsed() < Duration::from_secs(5), "it took {:?} to notice", at.elapsed());
    assert_eq!(machine.output(cx, "echo again").await.unwrap().text(), "again");
}

#[tokio::test(flavor = "multi_thread")]
async fn whoever_comes_after_a_broken_connection_finds_the_machine() {
    let Some(server) = Sshd::start() else { return };
    let bench = Bench::new();
    let machine = enter(&bench, &server.config()).await;
    let cut = async || assert!(server.kill_sessions() > 0);
    communicator::reconnects(machine.as_ref(), bench.context(), "sleep 600", cut).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_peer_that_falls_silent_is_noticed() {
    let Some(server) = Sshd::start() else { return };
    let bench = Bench::new();
    let cx = bench.context();
    let mut config = server.config();
    config.ssh_keep_alive_interval = millis(250);
    config.ssh_timeout = GoDuration::from_secs(20);
    let frozen = async || {
        tokio::time::sleep(Duration::from_millis(500)).await;
        assert!(server.freeze_sessions() > 0);
        Instant::now()
    };
    let machine = enter(&bench, &config).await;
    let (output, at) = tokio::join!(machine.output(cx, "sleep 600"), frozen());
    assert_eq!(output.unwrap().status, ExitStatus::Disconnected);
    assert!(at.elapsed() < Duration::from_secs(10), "it took {:?} to notice", at.elapsed());

    // In the middle of an upload there is more to send than fits on the line, so nobody gets to ask.
    let machine = enter(&bench, &config).await;
    let mut endless = tokio::io::repeat(b'x');
    let source = packer_core::Source::Reader { reader: &mut endless, size: None, mode: None };
    let (result, at) = tokio::join!(machine.upload(cx, source, "/dev/null"), frozen());
    let error = result.unwrap_err();
    assert_eq!(error.fault(), Fault::Network, "{error}");
    assert!(at.elapsed() < Duration::from_secs(10), "it took {:?} to notice", at.elapsed());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_connection_that_breaks_under_a_transfer_is_an_error_and_not_a_hang() {
    for lines in [&["Subsystem sftp internal-sftp"][..], &[]] {
        let Some(server) = Sshd::with(lines) else { return };
        let bench = Bench::new();
        let cx = bench.context();
        let machine = enter(&bench, &server.config()).await;
        let killed = async || {
            tokio::time::sleep(Duration::from_millis(500)).await;
            assert!(server.kill_sessions() > 0);
            Instant::now()
        };
        let mut endless = tokio::io::repeat(b'x');
        let source = packer_core::Source::Reader { reader: &mut endless, size: None, mode: None };
        let (result, at) = tokio::join!(machine.upload(cx, source, "/dev/null"), killed());
        let error = result.unwrap_err();
        assert_eq!(error.fault(), Fault::Network, "{error}");
        assert!(
            error.to_string().starts_with("upload /dev/null: the SSH connection to 127.0.0.1:"),
            "{error}"
        );
        assert!(at.elapsed() < Duration::from_secs(5), "it took {:?} to notice", at.elapsed());

        let mut sink = tokio::io::sink();
        let (result, at) = tokio::join!(machine.download(cx, "/dev/zero", &mut sink), killed());
        let error = result.unwrap_err();
        assert_eq!(error.fault(), Fault::Network, "{error}");
        assert!(at.elapsed() < Duration::from_secs(5), "it took {:?} to notice", at.elapsed());
        assert_eq!(machine.output(cx, "echo again").await.unwrap().text(), "again");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn what_a_broken_connection_left_of_an_upload_goes_with_the_next_transfer() {
    let Some(server) = Sshd::start() else { return };
    let bench = Bench::new();
    let cx = bench.context();
    let machine = enter(&bench, &server.config()).await;
    let folder = server.scratch();
    let names = || {
        let entries = std::fs::read_dir(&folder).unwrap();
        entries.map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect::<Vec<_>>()
    };
    let mut endless = tokio::io::repeat(b'x');
    let source = packer_core::Source::Reader { reader: &mut endless, size: None, mode: None };
    let there = folder.join("file").display().to_string();
    let killed = async {
        while names().is_empty() {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
        assert!(server.kill_sessions() > 0);
    };
    let (result, ()) = tokio::join!(machine.upload(cx, source, &there), killed);
    assert_eq!(result.unwrap_err().fault(), Fault::Network);
    assert!(names()[0].starts_with(".packer-"), "{:?}", names());
    machine.upload_bytes(cx, b"whole", &there).await.unwrap();
    assert_eq!(names(), ["file"]);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_server_that_is_gone_for_good_is_an_error_after_one_try() {
    let Some(mut server) = Sshd::start() else { return };
    let bench = Bench::new();
    let machine = enter(&bench, &server.config()).await;
    server.down();
    let began = Instant::now();
    let error = machine.output(bench.context(), "true").await.unwrap_err();
    assert!(error.is_retryable() && error.to_string().contains("connection refused"), "{error}");
    assert!(began.elapsed() < Duration::from_secs(10));
}

#[tokio::test(flavor = "multi_thread")]
async fn more_commands_at_once_than_the_server_allows_on_a_connection_take_another() {
    let lines = ["Subsystem sftp internal-sftp", "MaxSessions 2"];
    let Some(mut server) = Sshd::prepare(&[]) else { return };
    let text = std::fs::read_to_string(server.file("config")).unwrap();
    std::fs::write(server.file("config"), format!("{}\n{}\n", lines.join("\n"), text)).unwrap();
    server.up();
    let bench = Bench::new();
    let cx = bench.context();
    let machine = enter(&bench, &server.config()).await;
    let slow = || machine.output(cx, "sleep 1; echo done");
    let results = tokio::join!(slow(), slow(), slow(), slow());
    for output in [results.0, results.1, results.2, results.3] {
        assert_eq!(output.unwrap().text(), "done");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn goes_through_a_bastion() {
    let Some(server) = Sshd::start() else { return };
    let Some(bastion) = Sshd::with(&["AllowTcpForwarding yes", "ForceCommand /bin/false"]) else { return };
    let bench = Bench::new();
    let cx = bench.context();
    let mut config = server.config();
    config.ssh_bastion_host = Some("127.0.0.1".into());
    config.ssh_bastion_port = Some(bastion.port());
    config.ssh_bastion_private_key_file = Some(bastion.key().display().to_string());
    let machine = enter(&bench, &config).await;
    assert_eq!(machine.output(cx, "exit 7").await.unwrap().status, ExitStatus::Code(7));
    let file = server.scratch().join("through");
    let content = vec![7; 3_000_000];
    machine.upload_bytes(cx, &content, file.to_str().unwrap()).await.unwrap();
    assert!(std::fs::read(&file).unwrap() == content);
    bastion.kill_sessions();
    assert_eq!(machine.output(cx, "echo again").await.unwrap().text(), "again");
}

#[tokio::test(flavor = "multi_thread")]
async fn gives_a_terminal_and_keeps_to_the_lists_of_algorithms() {
    let Some(server) = Sshd::start() else { return };
    let bench = Bench::new();
    let cx = bench.context();
    let mut config = server.config();
    let machine = enter(&bench, &config).await;
    assert!(!machine.output(cx, "test -t 1").await.unwrap().status.success());
    config.ssh_pty = true;
    config.ssh_ciphers = vec!["aes128-ctr".into()];
    config.ssh_key_exchange_algorithms = vec!["ecdh-sha2-nistp256".into()];
    config.ssh_read_write_timeout = GoDuration::from_secs(30);
    let machine = enter(&bench, &config).await;
    let output = machine.output(cx, "test -t 1 && stty size && echo to-stderr >&2").await.unwrap();
    assert_eq!((output.status, output.text()), (ExitStatus::Code(0), "40 80\r\nto-stderr".to_owned()));
    // A name that nobody knows is told; another one does.
    config.ssh_ciphers.insert(0, "rot13".into());
    let findings = config.prepare(bench.prepare_context());
    assert!(!findings.has_errors());
    assert!(
        findings.to_string().contains("ssh_ciphers ('rot13') is not known and passed over; valid names: ")
    );
    enter(&bench, &config).await;
    config.ssh_ciphers.truncate(1);
    config.ssh_timeout = GoDuration::from_secs(1);
    let error = refused(&bench, &config).await.to_string();
    assert!(error.contains("no common cipher") && error.contains("aes256-gcm@openssh.com"), "{error}");
}

#[tokio::test(flavor = "multi_thread")]
async fn output_that_nobody_takes_holds_the_command_back() {
    let Some(server) = Sshd::start() else { return };
    let bench = Bench::new();
    let cx = bench.context();
    let machine = enter(&bench, &server.config()).await;
    let mark = server.scratch().join("sent");
    let text = format!("head -c 100000000 /dev/zero; touch {}", mark.display());
    let (mut near, mut far) = tokio::io::duplex(1024);
    let running = tokio::spawn({
        let (machine, cx) = (machine.clone(), cx.clone());
        async move { machine.exec(&cx, Command::new(text).stdout(&mut near)).await }
    });
    tokio::time::sleep(Duration::from_secs(2)).await;
    assert!(!mark.exists(), "100 MB went somewhere although nobody took them");
    let mut all = tokio::io::sink();
    let taken = tokio::io::copy(&mut far, &mut all).await.unwrap();
    assert_eq!(taken, 100_000_000);
    assert!(running.await.unwrap().unwrap().success());
}
