//! What other tools make of the images: they are the ones that users load them into.

use std::io::{BufRead, BufReader, Read, Write};
use std::net::{TcpListener, TcpStream};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use packer_builders::{Compression, Oci};
use packer_core::testing::{require, skip};
use packer_core::{Builder, CommunicatorExt};

use crate::support::{build_on, built, busybox_image, failure, folder, host, image, output, run, text};

/// A program that ends with the test.
struct Daemon(Child);

impl Drop for Daemon {
    fn drop(&mut self) {
        let _ = Command::new("kill").arg(self.0.id().to_string()).status();
        let began = Instant::now();
        while began.elapsed() < Duration::from_secs(10) && matches!(self.0.try_wait(), Ok(None)) {
            std::thread::sleep(Duration::from_millis(50));
        }
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

fn wait_for(what: &str, ready: impl Fn() -> bool) {
    let began = Instant::now();
    while !ready() {
        assert!(began.elapsed() < Duration::from_secs(30), "{what} does not start");
        std::thread::sleep(Duration::from_millis(50));
    }
}

fn free_port() -> u16 {
    TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port()
}

/// A registry; with `auth`, one that wants a name and a password.
fn registry(folder: &Path, auth: Option<&str>) -> Option<(Daemon, u16)> {
    let program = require("docker-registry")?;
    let port = free_port();
    let config = folder.join("registry.yml");
    let auth = auth
        .map(|file| format!("auth:\n  htpasswd:\n    realm: test\n    path: {file}\n"))
        .unwrap_or_default();
    let store = folder.join("registry");
    let text = format!(
        "version: 0.1\nlog:\n  level: error\nstorage:\n  filesystem:\n    rootdirectory: {}\nhttp:\n  addr: 127.0.0.1:{port}\n{auth}",
        store.display()
    );
    std::fs::write(&config, text).unwrap();
    let daemon = Command::new(program)
        .arg("serve")
        .arg(&config)
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .spawn()
        .unwrap();
    wait_for("docker-registry", || TcpStream::connect(("127.0.0.1", port)).is_ok());
    Some((Daemon(daemon), port))
}

fn layer_names(folder: &Path, name: &str) -> Vec<String> {
    let made = image(folder, name);
    made.manifest["layers"]
        .as_array()
        .unwrap()
        .iter()
        .map(|l| l["digest"].as_str().unwrap().to_owned())
        .collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn skopeo_reads_every_form() {
    let folder = folder();
    let Some(skopeo) = require("skopeo") else { return };
    let Some(base) = busybox_image(folder.path()).await else { return };
    let at = |name: &str| folder.path().join(name).display().to_string();
    for compression in [Compression::Gzip, Compression::Zstd, Compression::None] {
        let outputs = [
            format!("oci:{}:v{compression:?}", at("out")),
            format!("oci-archive:{}:v1", at("oci.tar")),
            format!("docker-archive:{}:example.com/test:v1", at("docker.tar")),
        ];
        let mut oci = Oci::from(&base).label("made", "here").compression(compression);
        oci.output = outputs.iter().cloned().collect();
        built(folder.path(), oci, vec![run("echo hi > /hi"), text("/größe and space", "x")]).await;
        for output_name in &outputs {
            let told = output(&skopeo, &["inspect", output_name]);
            let told: serde_json::Value = serde_json::from_str(&told).unwrap();
            assert_eq!(told["Labels"]["made"], "here", "{output_name}");
            assert_eq!(told["Layers"].as_array().unwrap().len(), 2);
            // It copies, and so checks every digest.
            let copy = format!("dir:{}", at("copy"));
            output(&skopeo, &["copy", "--insecure-policy", output_name, &copy]);
        }
    }
    // What it copies we take as a base: each form is read as well as written.
    for (number, form) in ["oci-archive:{}:v1", "docker-archive:{}:example.com/test:v1"].iter().enumerate() {
        let copied = form.replace("{}", &at(&format!("copied-{number}.tar")));
        output(&skopeo, &["copy", "--insecure-policy", &format!("oci:{}:vGzip", at("out")), &copied]);
        let again = Oci::from(copied).output(format!("oci:{}:again-{number}", at("out")));
        built(folder.path(), again, vec![run("test \"$(cat /hi)\" = hi && test -f '/größe and space'")])
            .await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_registry_takes_it_and_gives_it_back() {
    let folder = folder();
    let Some(base) = busybox_image(folder.path()).await else { return };
    let Some((_daemon, port)) = registry(folder.path(), None) else { return };
    let name = format!("docker://127.0.0.1:{port}/test/image:1");
    let local = format!("oci:{}:image", folder.path().join("out").display());
    let mut oci = Oci::from(&base).output(&name).output(&local);
    oci.compression = Compression::Zstd;
    let report = built(folder.path(), oci, vec![run("echo pushed > /pushed")]).await;
    let digest = report.artifacts().next().unwrap().id.clone();
    // By tag, by digest, and a second time out of the cache.
    for name in [name.clone(), format!("docker://127.0.0.1:{port}/test/image@{digest}"), name.clone()] {
        let out = format!("docker://127.0.0.1:{port}/other/image:2");
        let again = Oci::from(&name).output(&out).output(local.replace(":image", ":again"));
        assert_eq!(
            again
                .source_digest(packer_core::testing::Bench::with_host(host(folder.path())).context())
                .await
                .unwrap(),
            Some(format!("{digest} linux/{}/", arch()))
        );
        built(folder.path(), again, vec![run("test $(cat /pushed) = pushed && echo 2 > /second")]).await;
        let layers = layer_names(&folder.path().join("out"), "again");
        assert_eq!(
            layers[..2],
            layer_names(&folder.path().join("out"), "image")[..],
            "layers of the base stay"
        );
    }
    // A cache that was spoilt is not believed.
    let cache = folder.path().join("cache/oci/blobs");
    for blob in std::fs::read_dir(&cache).unwrap() {
        let path = blob.unwrap().path();
        let mut bytes = std::fs::read(&path).unwrap();
        bytes[20] ^= 1;
        std::fs::remove_file(&path).unwrap();
        std::fs::write(&path, bytes).unwrap();
    }
    let again = Oci::from(&name).output(local.replace(":image", ":third"));
    built(folder.path(), again, vec![run("test $(cat /pushed) = pushed")]).await;
    let missing = Oci::from(format!("docker://127.0.0.1:{port}/test/missing:1")).output(&local);
    let error = failure(folder.path(), missing, vec![]).await;
    assert!(error.contains("404") && error.contains("test/missing"), "{error}");
}

fn arch() -> &'static str {
    match std::env::consts::ARCH {
        "x86_64" => "amd64",
        "aarch64" => "arm64",
        other => other,
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn credentials_are_those_of_docker() {
    let folder = folder();
    let file = folder.path().join("htpasswd");
    let Some(htpasswd) = require("htpasswd") else { return };
    let line = output(&htpasswd, &["-nbB", "me", "s3cret"]);
    std::fs::write(&file, line + "\n").unwrap();
    let Some((_daemon, port)) = registry(folder.path(), Some(&file.display().to_string())) else { return };
    let name = format!("docker://127.0.0.1:{port}/private/image:1");
    let oci = Oci::scratch([&name]);
    let error = failure(folder.path(), oci.clone(), vec![text("/a", "1")]).await;
    assert!(error.contains("401"), "{error}");
    let config = folder.path().join(".docker");
    std::fs::create_dir(&config).unwrap();
    // One that cannot be read has no credentials; that this is why is said where it fails.
    std::fs::write(config.join("config.json"), "").unwrap();
    let error = failure(folder.path(), oci.clone(), vec![text("/a", "1")]).await;
    assert!(error.contains("401") && error.contains("; no credentials were sent: "), "{error}");
    // me:s3cret in base64
    let text_of = format!("{{\"auths\": {{\"127.0.0.1:{port}\": {{\"auth\": \"bWU6czNjcmV0\"}}}}}}");
    std::fs::write(config.join("config.json"), text_of).unwrap();
    let (report, recorder) = build_on(host(folder.path()), oci, vec![text("/a", "1")]).await;
    assert!(report.succeeded(), "{:?}", report.builds[0].error);
    assert!(!format!("{:?}", recorder.events()).contains("s3cret"));
}

/// Passes everything on to a registry, but breaks a connection off after so many bytes of an answer, once.
fn breaking_off(to: u16, after: usize) -> u16 {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let port = listener.local_addr().unwrap().port();
    std::thread::spawn(move || {
        let broken = std::sync::Arc::new(std::sync::atomic::AtomicBool::new(false));
        for client in listener.incoming() {
            let (Ok(mut client), Ok(mut server)) = (client, TcpStream::connect(("127.0.0.1", to))) else {
                return;
            };
            let (mut up, mut down) = (client.try_clone().unwrap(), server.try_clone().unwrap());
            std::thread::spawn(move || {
                let _ = std::io::copy(&mut up, &mut server);
                let _ = server.shutdown(std::net::Shutdown::Write);
            });
            let broken = broken.clone();
            std::thread::spawn(move || {
                let (mut piece, mut passed) = (vec![0; 4096], 0);
                while let Ok(read @ 1..) = down.read(&mut piece) {
                    passed += read;
                    if passed > after && !broken.swap(true, std::sync::atomic::Ordering::SeqCst) {
                        let _ = client.shutdown(std::net::Shutdown::Both);
                        return;
                    }
                    if client.write_all(&piece[..read]).is_err() {
                        return;
                    }
                }
                let _ = client.shutdown(std::net::Shutdown::Both);
            });
        }
    });
    port
}

#[tokio::test(flavor = "multi_thread")]
async fn a_transfer_that_breaks_off_goes_on() {
    let folder = folder();
    let Some(base) = busybox_image(folder.path()).await else { return };
    let Some((_daemon, port)) = registry(folder.path(), None) else { return };
    built(folder.path(), Oci::from(&base).output(format!("docker://127.0.0.1:{port}/a/b:1")), vec![]).await;
    let proxy = breaking_off(port, 300_000);
    let local = format!("oci:{}:image", folder.path().join("out").display());
    let oci = Oci::from(format!("docker://127.0.0.1:{proxy}/a/b:1")).output(&local);
    built(folder.path(), oci, vec![text("/a", "1")]).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn docker_loads_and_runs_it() {
    let folder = folder();
    let (Some(dockerd), Some(docker)) = (require("dockerd"), require("docker")) else { return };
    if !rustix::process::geteuid().is_root() {
        return skip_unless_root();
    }
    let Some(base) = busybox_image(folder.path()).await else { return };
    let archive = folder.path().join("image.tar");
    let oci = Oci::from(&base)
        .output(format!("docker-archive:{}:packer-oci-test:1", archive.display()))
        .entrypoint(["/bin/cat"])
        .cmd(["/made"]);
    built(
        folder.path(),
        oci.layer_per_provisioner(),
        vec![run("echo by packer > /made"), run("rm /bin/yes")],
    )
    .await;
    let path = |name: &str| folder.path().join(name).display().to_string();
    let socket = format!("unix://{}", path("docker.sock"));
    let daemon = Command::new(dockerd)
        .args([
            "--data-root",
            &path("data"),
            "--exec-root",
            &path("exec"),
            "-p",
            &path("docker.pid"),
            "-H",
            &socket,
        ])
        .args(["--bridge", "none", "--iptables=false", "--ip-masq=false"])
        .env("PATH", host(folder.path()).env["PATH"].as_str())
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(Stdio::from(std::fs::File::create(path("dockerd.log")).unwrap()))
        .spawn()
        .unwrap();
    let daemon = Daemon(daemon);
    let ask = |arguments: &[&str]| output(&docker, &[&["-H", socket.as_str()], arguments].concat());
    wait_for("dockerd", || {
        let info = Command::new(&docker).args(["-H", &socket, "info"]).output();
        info.is_ok_and(|info| info.status.success())
    });
    ask(&["load", "-i", &path("image.tar")]);
    assert_eq!(ask(&["run", "--rm", "--net=none", "packer-oci-test:1"]), "by packer");
    let gone = ["run", "--rm", "--net=none", "--entrypoint", "/bin/sh", "packer-oci-test:1", "-c"];
    assert_eq!(ask(&[&gone[..], &["test -e /bin/yes || echo gone"]].concat()), "gone");
    // What it saves is a base again.
    ask(&["save", "-o", &path("saved.tar"), "packer-oci-test:1"]);
    drop(daemon);
    let _ = Command::new("umount").arg(path("exec/netns/default")).stderr(Stdio::null()).status();
    let again =
        Oci::from(format!("docker-archive:{}", path("saved.tar"))).output(format!("oci:{}:x", path("out")));
    built(folder.path(), again, vec![run("test \"$(cat /made)\" = 'by packer' && test ! -e /bin/yes")]).await;
}

#[expect(clippy::print_stderr, reason = "what is not tested is told")]
fn skip_unless_root() {
    eprintln!("skipped: needs root");
}

/// `podman` with a store of its own that works here too.
fn podman(folder: &Path) -> Option<(PathBuf, PathBuf)> {
    let program = require("podman")?;
    let config = folder.join("containers.conf");
    std::fs::write(
        &config,
        "[containers]\ndefault_ulimits = [\"nofile=20000:20000\", \"nproc=32768:32768\"]\n\
         [engine]\nruntime = \"runc\"\ncgroup_manager = \"cgroupfs\"\nevents_logger = \"file\"\n",
    )
    .unwrap();
    let store = folder.join("storage.conf");
    let text = format!(
        "[storage]\ndriver = \"vfs\"\nrunroot = \"{0}/podman-run\"\ngraphroot = \"{0}/podman\"\n",
        folder.display()
    );
    std::fs::write(store, text).unwrap();
    Some((program, config))
}

#[tokio::test(flavor = "multi_thread")]
async fn podman_loads_and_runs_it() {
    let folder = folder();
    let Some((program, config)) = podman(folder.path()) else { return };
    if !rustix::process::geteuid().is_root() {
        return skip_unless_root();
    }
    let Some(base) = busybox_image(folder.path()).await else { return };
    let archive = folder.path().join("image.tar").display().to_string();
    let oci = Oci::from(&base).output(format!("oci-archive:{archive}:v1")).entrypoint(["/bin/cat", "/made"]);
    built(folder.path(), oci.compression(Compression::Zstd), vec![run("echo by packer > /made")]).await;
    let ask = |arguments: &[&str]| {
        let run = Command::new(&program)
            .arg("--tmpdir")
            .arg(folder.path().join("podman-tmp"))
            .args(arguments)
            .env("CONTAINERS_CONF", &config)
            .env("CONTAINERS_STORAGE_CONF", folder.path().join("storage.conf"))
            .stdin(Stdio::null())
            .output()
            .unwrap();
        assert!(run.status.success(), "podman {arguments:?}: {}", String::from_utf8_lossy(&run.stderr));
        String::from_utf8_lossy(&run.stdout).trim().to_owned()
    };
    let loaded = ask(&["load", "-q", "-i", &archive]);
    let name = loaded.rsplit(": ").next().unwrap().to_owned();
    assert_eq!(ask(&["run", "--rm", "--network=host", &name]), "by packer");
}

/// The same as somebody who is not root: every test but those of daemons, in a process of that user's.
#[test]
fn an_ordinary_user_can_do_it_too() {
    let Some(setpriv) = require("setpriv") else { return };
    if !rustix::process::geteuid().is_root() {
        return; // this is that process, or might as well be
    }
    let folder = folder();
    let program = folder.path().join("tests");
    std::fs::copy(std::env::current_exe().unwrap(), &program).unwrap();
    let mut tests = Command::new(setpriv)
        .args(["--reuid", "12345", "--regid", "12345", "--clear-groups"])
        .arg(program)
        .args(["behaviour::", "bases::", "images::", "peers::skopeo", "--test-threads=2"])
        .env("HOME", "/nowhere")
        .current_dir("/")
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::null())
        .spawn()
        .unwrap();
    let lines: Vec<String> =
        BufReader::new(tests.stdout.take().unwrap()).lines().map_while(Result::ok).collect();
    if !tests.wait().unwrap().success() {
        let text = lines.join("\n");
        if text.contains("Operation not permitted")
            && std::fs::read_to_string("/proc/sys/user/max_user_namespaces").is_ok_and(|n| n.trim() == "0")
        {
            return skip("user namespaces");
        }
        eprintln!("{text}");
        panic!("the tests fail for an ordinary user");
    }
}

/// What a build leaves when its process is killed is gone after a recovery; a command that runs is ended.
#[tokio::test(flavor = "multi_thread")]
async fn what_still_runs_ends_with_the_release() {
    let folder = folder();
    let Some(base) = busybox_image(folder.path()).await else { return };
    if require("runc").is_none() && require("bwrap").is_none() {
        return;
    }
    let bench = packer_core::testing::Bench::with_host(host(folder.path()));
    let oci = Oci::from(&base).output("oci:unused:x");
    let machine = oci.launch(bench.context()).await.unwrap();
    let communicator = machine.communicator();
    let cx = bench.context().clone();
    let sleeping = tokio::spawn(async move { communicator.output(&cx, "sleep 987.125").await });
    let runs = || {
        std::fs::read_dir("/proc").unwrap().any(|process| {
            // Processes end meanwhile.
            let line =
                process.and_then(|process| std::fs::read(process.path().join("cmdline"))).unwrap_or_default();
            line.split(|byte| *byte == 0).collect::<Vec<_>>() == [&b"sleep"[..], b"987.125", b""]
        })
    };
    wait_for("sleep", runs);
    // As a later process would, from the ledger alone.
    for resource in bench.outstanding().iter().rev().filter(|r| !r.is_local()) {
        Oci::default().release(bench.context(), resource).await.unwrap();
        Oci::default().release(bench.context(), resource).await.unwrap();
    }
    assert!(!runs());
    assert_eq!(std::fs::read_dir(folder.path().join("tmp")).unwrap().count(), 0);
    let _ = sleeping.await;
}
