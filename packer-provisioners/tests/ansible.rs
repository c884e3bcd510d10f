//! The provisioners `ansible` and `ansible-local` with the real Ansible, over SSH to a real server.
#![cfg(all(target_os = "linux", feature = "ansible", feature = "ansible-local"))]
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::print_stdout,
    reason = "tests stop at the first surprise"
)]

use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, Instant};

use packer_core::ledger::{Ledger, MemoryLedger};
use packer_core::testing::sshd::Sshd;
use packer_core::testing::{Recorder, TempFolder, require};
use packer_core::{
    Artifact, Build, Builder, Communicator, CommunicatorConfig, Context, Diagnostics, Engine, Facts, Host,
    Machine, Pipeline, PrepareContext, Prepared, ProvisionStep, Report, Resource, Result, Run, Target,
    async_trait,
};
use packer_provisioners::{Ansible, AnsibleLocal};

/// Enters a server.
#[derive(Clone)]
struct Enter(CommunicatorConfig);

struct Entered {
    communicator: Arc<dyn Communicator>,
    facts: Facts,
}

#[async_trait]
impl Builder for Enter {
    async fn prepare(&self, _: &PrepareContext) -> Result<Prepared, Diagnostics> {
        Ok(Prepared::new())
    }

    async fn launch(&self, cx: &Context) -> Result<Box<dyn Machine>> {
        let communicator = self.0.connect(cx, &Target::default()).await?;
        Ok(Box::new(Entered { communicator, facts: self.0.facts(&Target::default()) }))
    }

    async fn release(&self, _: &Context, _: &Resource) -> Result<()> {
        Ok(())
    }
}

#[async_trait]
impl Machine for Entered {
    fn communicator(&self) -> Arc<dyn Communicator> {
        self.communicator.clone()
    }

    fn facts(&self) -> &Facts {
        &self.facts
    }

    async fn capture(&self, _: &Context) -> Result<Artifact> {
        Ok(Artifact::new("test", "m"))
    }
}

/// A server, a folder in it, and one of this computer's.
struct World {
    server: Sshd,
    remote: PathBuf,
    local: TempFolder,
    ledger: Arc<MemoryLedger>,
    recorder: Recorder,
}

impl World {
    /// `None` where there is no server or no Ansible, which is then said.
    fn new() -> Option<Self> {
        require("ansible-playbook")?;
        let server = Sshd::start()?;
        let remote = server.scratch();
        let local = TempFolder::new();
        std::fs::create_dir(local.path().join("tmp")).unwrap();
        Some(Self { server, remote, local, ledger: Arc::default(), recorder: Recorder::new() })
    }

    /// Writes a file of this computer's, in which `REMOTE` and `LOCAL` stand for the two folders.
    fn file(&self, name: &str, text: &str) -> String {
        let path = self.local.path().join(name);
        let text = text.replace("REMOTE", &self.remote.display().to_string());
        std::fs::write(&path, text.replace("LOCAL", &self.local.path().display().to_string())).unwrap();
        path.display().to_string()
    }

    fn start(&self, step: impl Into<ProvisionStep>) -> Run {
        let mut host = Host::new();
        host.temp_dir = self.local.path().join("tmp");
        host.env.insert("HOME".into(), self.local.path().display().to_string());
        host.env.insert("ANSIBLE_NOCOLOR".into(), "1".into());
        let build = Build::new("b", Enter(self.server.config())).provision(step);
        let engine = Engine::new().host(host).ledger(self.ledger.clone()).events(self.recorder.clone());
        engine.start(Pipeline::of([build])).unwrap()
    }

    async fn run(&self, step: impl Into<ProvisionStep>) -> Report {
        let run = self.start(step);
        let report =
            tokio::time::timeout(Duration::from_secs(120), run.report()).await.expect("in time").unwrap();
        self.nothing_is_left();
        report
    }

    async fn succeed(&self, step: impl Into<ProvisionStep>) {
        let report = self.run(step).await;
        assert!(report.succeeded(), "{:#?}", self.recorder.lines());
    }

    fn nothing_is_left(&self) {
        let files: Vec<_> = std::fs::read_dir(self.local.path().join("tmp")).unwrap().collect();
        assert!(files.is_empty(), "{files:?}");
        assert!(self.ledger.outstanding().is_empty(), "{:?}", self.ledger.outstanding());
    }

    fn says(&self, text: &str) -> bool {
        self.recorder.lines().iter().any(|line| line.contains(text))
    }
}

/// The same with a blank in the path: by pipes and the old scp neither Ansible nor `scp` can do that with any server.
#[tokio::test(flavor = "multi_thread")]
async fn paths_may_have_blanks() {
    let Some(world) = World::new() else { return };
    let play = world.file("play.yml", &COPY.replace("REMOTE/there", "REMOTE/it is there"));
    for use_sftp in [false, true] {
        let text = format!("{use_sftp}\n");
        world.file("sent", &text);
        let mut ansible = Ansible::playbook(&play);
        ansible.use_sftp = use_sftp;
        world.succeed(ansible).await;
        assert_eq!(std::fs::read_to_string(world.remote.join("it is there")).unwrap(), text);
        assert_eq!(std::fs::read_to_string(world.local.path().join("fetched")).unwrap(), text);
        std::fs::remove_file(world.local.path().join("fetched")).unwrap();
    }
}

/// A playbook that puts a file into the machine, runs a command and fetches the file.
const COPY: &str = "\
- hosts: all
  gather_facts: false
  tasks:
    - copy: { src: 'LOCAL/sent', dest: 'REMOTE/there', mode: '0640' }
    - command: id -un
      changed_when: false
    - fetch: { src: 'REMOTE/there', dest: 'LOCAL/fetched', flat: true }
";

fn mode(path: &Path) -> u32 {
    std::fs::metadata(path).unwrap().permissions().mode() & 0o7777
}

#[tokio::test(flavor = "multi_thread")]
async fn files_go_both_ways_however_ansible_moves_them() {
    let Some(world) = World::new() else { return };
    let play = world.file("play.yml", COPY);
    let by = |change: &dyn Fn(&mut Ansible)| {
        let mut ansible = Ansible::playbook(&play);
        change(&mut ansible);
        ansible
    };
    let ways = [
        ("by default", by(&|_| {})),
        ("by sftp", by(&|a| a.use_sftp = true)),
        ("through pipes", by(&|a| a.ansible_env_vars = vec!["ANSIBLE_SSH_TRANSFER_METHOD=piped".into()])),
        ("by the old scp", by(&|a| a.extra_arguments = vec!["--scp-extra-args".into(), "'-O'".into()])),
        ("with an RSA key", by(&|a| a.ansible_proxy_key_type = "RSA".into())),
        (
            "with work-arounds",
            by(&|a| {
                let args = "-o HostKeyAlgorithms=+ssh-rsa -o PubkeyAcceptedKeyTypes=+ssh-rsa";
                a.ansible_ssh_extra_args = vec![args.into()];
            }),
        ),
        ("without the proxy", by(&|a| a.use_proxy = Some(false))),
    ];
    for (i, (how, ansible)) in ways.into_iter().enumerate() {
        let text = format!("{how}\n").repeat(i + 1);
        world.file("sent", &text);
        world.succeed(ansible).await;
        let there = world.remote.join("there");
        assert_eq!(std::fs::read_to_string(&there).unwrap(), text, "{how}");
        assert_eq!(mode(&there), 0o640, "{how}");
        assert_eq!(std::fs::read_to_string(world.local.path().join("fetched")).unwrap(), text, "{how}");
        std::fs::remove_file(world.local.path().join("fetched")).unwrap();
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_large_file_goes_both_ways() {
    let Some(world) = World::new() else { return };
    let play = world.file("play.yml", COPY);
    let mut content = Vec::with_capacity(50 << 20);
    let mut number = 1_u64;
    while content.len() < 50 << 20 {
        number = number.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        content.extend_from_slice(&number.to_le_bytes());
    }
    std::fs::write(world.local.path().join("sent"), &content).unwrap();
    for extra in [&[][..], &["--scp-extra-args", "'-O'"]] {
        let _ = std::fs::remove_file(world.remote.join("there"));
        let _ = std::fs::remove_file(world.local.path().join("fetched"));
        let began = Instant::now();
        world.succeed(Ansible::playbook(&play).extra_arguments(extra.iter().copied())).await;
        println!("50 MiB both ways {extra:?}: {:.1} s", began.elapsed().as_secs_f64());
        assert!(std::fs::read(world.remote.join("there")).unwrap() == content);
        assert!(std::fs::read(world.local.path().join("fetched")).unwrap() == content);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_task_that_fails_is_the_error() {
    let Some(world) = World::new() else { return };
    let play =
        world.file("play.yml", "- hosts: all\n  gather_facts: false\n  tasks:\n    - command: 'false'\n");
    let report = world.run(Ansible::playbook(&play)).await;
    let error = report.builds[0].error.as_ref().unwrap().to_string();
    assert_eq!(error, "Error executing Ansible: Non-zero exit status: exit status 2");
    assert!(world.says("FAILED!"));
}

#[tokio::test(flavor = "multi_thread")]
async fn nothing_is_left_of_a_run_that_is_cancelled() {
    let Some(world) = World::new() else { return };
    let play = "- hosts: all\n  gather_facts: false\n  tasks:\n    - shell: 'echo $$ >REMOTE/started; exec sleep 600'\n";
    let play = world.file("play.yml", play);
    let run = world.start(Ansible::playbook(&play));
    let started = world.remote.join("started");
    let deadline = Instant::now() + Duration::from_secs(60);
    while !started.exists() {
        assert!(Instant::now() < deadline, "{:#?}", world.recorder.lines());
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    run.cancel("interrupt");
    let report = tokio::time::timeout(Duration::from_secs(15), run.report()).await.expect("at once").unwrap();
    assert!(report.cancelled);
    world.nothing_is_left();
    // What runs has the playbook, its folder or the key's name among its arguments.
    let ours = world.local.path().display().to_string();
    let lives = || {
        let processes = std::fs::read_dir("/proc")
            .unwrap()
            .filter_map(|e| std::fs::read(e.ok()?.path().join("cmdline")).ok());
        processes.filter(|line| String::from_utf8_lossy(line).contains(&ours)).count()
    };
    let deadline = Instant::now() + Duration::from_secs(5);
    while lives() > 0 {
        assert!(Instant::now() < deadline, "something still runs");
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn several_hosts_are_worked_on_at_once() {
    let Some(world) = World::new() else { return };
    let text = "- hosts: all\n  gather_facts: false\n  tasks:\n\
        \x20   - copy: { src: 'LOCAL/sent', dest: 'REMOTE/{{ inventory_hostname }}' }\n\
        \x20   - fetch: { src: 'REMOTE/{{ inventory_hostname }}', dest: 'LOCAL/', flat: true }\n";
    let play = world.file("play.yml", text);
    let text = "0123456789abcdef\n".repeat(100_000);
    world.file("sent", &text);
    let hosts = ["a", "b", "c", "d", "e"];
    let line = |name: &&str| {
        format!("{name} ansible_host={{{{.Host}}}} ansible_user={{{{.User}}}} ansible_port={{{{.Port}}}}\n")
    };
    let mut ansible = Ansible::playbook(&play);
    ansible.inventory_file_template = hosts.iter().map(line).collect::<String>().into();
    world.succeed(ansible).await;
    for host in hosts {
        assert!(std::fs::read_to_string(world.remote.join(host)).unwrap() == text, "{host}");
        assert!(std::fs::read_to_string(world.local.path().join(host)).unwrap() == text, "{host}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn an_ansible_that_is_missing_or_killed_is_the_error() {
    let Some(world) = World::new() else { return };
    let mut ansible = Ansible::playbook(world.file("play.yml", "- hosts: all\n"));
    ansible.command = "/no/such/ansible-playbook".into();
    let found = world.start(ansible.clone()).report().await.unwrap_err();
    let said = format!("{found:?}");
    assert!(said.contains("/no/such/ansible-playbook") && said.contains("ansible-core"), "{said}");
    let script = world.file("killed", "#!/bin/sh\nkill -9 $$\n");
    std::fs::set_permissions(&script, std::fs::Permissions::from_mode(0o755)).unwrap();
    ansible.command.clone_from(&script);
    ansible.skip_version_check = true;
    let report = world.run(ansible).await;
    let error = report.builds[0].error.as_ref().unwrap().to_string();
    assert_eq!(error, format!("Error executing Ansible: {script} was ended by signal 9 before it was done"));
}

/// However a password is given to Ansible, neither the line that shows the command has it nor what Ansible prints.
#[tokio::test(flavor = "multi_thread")]
async fn passwords_for_ansible_are_not_shown() {
    let Some(world) = World::new() else { return };
    let script =
        world.file("show", "#!/bin/sh\nprintf '%s\\n' \"$@\" \"$ANSIBLE_SSH_PASS\"\necho \"$@\" >&2\n");
    std::fs::set_permissions(&script, std::fs::Permissions::from_mode(0o755)).unwrap();
    let mut ansible = Ansible::playbook(world.file("play.yml", "- hosts: all\n")).extra_arguments([
        "-e",
        "ansible_ssh_pass=wOrd-0",
        "--extra-vars",
        r#"{"ansible_become_password": "wOrd-1", "n": 1}"#,
        "--extra-vars={ansible_winrm_password: wOrd-2}",
        "-eansible_become_pass='wOrd-3'",
    ]);
    ansible.command = script;
    ansible.skip_version_check = true;
    ansible.ansible_env_vars = vec!["ANSIBLE_SSH_PASS=wOrd-4".into()];
    world.succeed(ansible).await;
    let mut local = AnsibleLocal::playbook(world.file("play.yml", "- hosts: all\n  gather_facts: false\n"));
    local.extra_arguments = ["--extra-vars", "\"ansible_become_pass=wOrd-5\""].map(str::to_owned).into();
    world.succeed(local).await;
    let shown = world.recorder.lines().join("\n");
    assert!(!shown.contains("wOrd-"), "{shown}");
    for text in
        ["ansible_ssh_pass=*****", "ansible_become_password\":*****", "ansible_become_pass='<sensitive>'"]
    {
        assert!(shown.contains(text), "{text}: {shown}");
    }
}

/// A port that somebody has is passed over.
#[tokio::test(flavor = "multi_thread")]
async fn the_next_port_is_taken() {
    let Some(world) = World::new() else { return };
    let taken = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let port = taken.local_addr().unwrap().port();
    let script =
        world.file("show", "#!/bin/sh\nfor a; do case $a in *provisioner-ansible*) cat $a;; esac; done\n");
    std::fs::set_permissions(&script, std::fs::Permissions::from_mode(0o755)).unwrap();
    let mut ansible = Ansible::playbook(world.file("play.yml", "- hosts: all\n"));
    ansible.command = script;
    ansible.skip_version_check = true;
    ansible.local_port = i64::from(port);
    world.succeed(ansible).await;
    assert!(world.says("trying the next port"));
    let later = (1..10).any(|more| world.says(&format!("ansible_port={}", port + more)));
    assert!(later, "{:#?}", world.recorder.lines());
}

/// Who has another key, or another name, is not let in.
#[tokio::test(flavor = "multi_thread")]
async fn only_the_key_of_the_run_lets_in() {
    let Some(world) = World::new() else { return };
    let play = world.file("play.yml", "- hosts: all\n");
    let script = "#!/bin/sh\n\
        for a; do case $a in ansible_ssh_private_key_file=*) key=${a#*=};; *provisioner-ansible*) inv=$a;; esac; done\n\
        port=$(sed -n 's/.*ansible_port=//p' $inv); me=$(id -un)\n\
        try() { ssh -F none -o BatchMode=yes -o StrictHostKeyChecking=no -o UserKnownHostsFile=/dev/null \
        -o IdentitiesOnly=yes -o LogLevel=ERROR -p $port -i $2 $1@127.0.0.1 'cat; echo err >&2; exit 3' <$0 >/dev/null 2>&1; \
        echo \"$3 $?\"; }\n\
        try $me $key right; try $me OTHER other-key; try nobody $key other-user\n";
    let script = script.replace("OTHER", &world.server.key().display().to_string());
    let script = world.file("stand-in", &script);
    std::fs::set_permissions(&script, std::fs::Permissions::from_mode(0o755)).unwrap();
    let mut ansible = Ansible::playbook(&play);
    ansible.command = script;
    ansible.skip_version_check = true;
    world.succeed(ansible).await;
    for line in ["right 3", "other-key 255", "other-user 255"] {
        assert!(world.says(line), "{line}: {:#?}", world.recorder.lines());
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn playbooks_run_in_the_machine_and_their_folder_is_removed() {
    let Some(world) = World::new() else { return };
    let stage = world.remote.join("stage");
    for works in [true, false] {
        let task = if works { "copy: { content: hello, dest: 'REMOTE/local' }" } else { "command: 'false'" };
        let play = world.file(
            "play.yml",
            &format!("- hosts: all\n  connection: local\n  gather_facts: false\n  tasks:\n    - {task}\n"),
        );
        let mut local = AnsibleLocal::playbook(&play);
        local.staging_directory = stage.display().to_string();
        local.clean_staging_directory = true;
        let report = world.run(local).await;
        assert_eq!(report.succeeded(), works, "{:#?}", world.recorder.lines());
        assert!(!stage.exists());
        if let Some(error) = &report.builds[0].error {
            assert_eq!(error.to_string(), "Error executing Ansible: Non-zero exit status: 2");
        }
    }
    assert_eq!(std::fs::read_to_string(world.remote.join("local")).unwrap(), "hello");
}

#[tokio::test(flavor = "multi_thread")]
async fn the_folder_of_a_cancelled_playbook_is_removed() {
    let Some(world) = World::new() else { return };
    let stage = world.remote.join("stage");
    let mut local = AnsibleLocal::playbook(world.file("play.yml", "- hosts: all\n"));
    local.command = "echo it runs; exec sleep 600 #".into();
    local.staging_directory = stage.display().to_string();
    local.clean_staging_directory = true;
    let run = world.start(local);
    let deadline = Instant::now() + Duration::from_secs(30);
    while !world.says("it runs") || !stage.exists() {
        assert!(Instant::now() < deadline, "{:#?}", world.recorder.lines());
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    run.cancel("interrupt");
    let report = tokio::time::timeout(Duration::from_secs(15), run.report()).await.expect("at once").unwrap();
    assert!(report.cancelled);
    assert!(!stage.exists());
    world.nothing_is_left();
}
