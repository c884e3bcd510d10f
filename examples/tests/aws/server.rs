//! A small AWS: moto behind a proxy that sees each call, and may kill the program that made it.

use std::collections::{BTreeMap, BTreeSet};
use std::io::{Read, Write};
use std::net::{Shutdown, TcpListener, TcpStream};
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use packer_core::testing::require;
use packer_core::testing::sshd::Sshd;
use regex::Regex;

/// The image that all builds start from, one of those that moto has.
pub(crate) const SOURCE: &str = "ami-1e749f67";

/// A moto server, and the SSH server that stands for all instances.
pub(crate) struct Aws {
    moto: Child,
    port: u16,
    pub(crate) sshd: Arc<Sshd>,
    accounts: AtomicUsize,
}

impl Aws {
    /// Starts both; `None` where one of the programs is not there.
    pub(crate) fn start() -> Option<Self> {
        let program = require("moto_server")?;
        let sshd = Arc::new(Sshd::start()?);
        let port = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
        let moto = Command::new(program)
            .args(["-H", "127.0.0.1", "-p", &port.to_string()])
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .unwrap();
        let since = Instant::now();
        while TcpStream::connect(("127.0.0.1", port)).is_err() {
            assert!(since.elapsed() < Duration::from_secs(60), "moto does not start");
            std::thread::sleep(Duration::from_millis(100));
        }
        Some(Self { moto, port, sshd, accounts: AtomicUsize::new(1) })
    }

    /// A new account, with an address of its own.
    pub(crate) fn account(&self) -> Account {
        let number = format!("{:012}", 300_000_000_000 + self.accounts.fetch_add(1, Ordering::Relaxed));
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let port = listener.local_addr().unwrap().port();
        let shared = Arc::new(Shared {
            moto: self.port,
            number,
            authorized: self.sshd.file("authorized"),
            state: Mutex::default(),
        });
        let served = shared.clone();
        std::thread::spawn(move || {
            for stream in listener.incoming().map_while(Result::ok) {
                let shared = served.clone();
                std::thread::spawn(move || serve(&shared, stream));
            }
        });
        Account { port, shared }
    }
}

impl Drop for Aws {
    fn drop(&mut self) {
        let _ = self.moto.kill();
        let _ = self.moto.wait();
    }
}

/// When the program is killed.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Kill {
    /// At which call that changes something, counted from 1.
    pub(crate) at: usize,
    /// Whether the call is still made, so that only its answer is lost.
    pub(crate) after: bool,
}

#[derive(Default)]
struct State {
    /// The calls that were seen.
    calls: Vec<String>,
    changing: usize,
    kill: Option<Kill>,
    program: Option<u32>,
    /// The call at which the program was killed.
    killed_at: Option<String>,
    /// What AWS tells of images, and moto does not: of a copy its source, of a registered one its snapshots. By id.
    images: BTreeMap<String, String>,
}

struct Shared {
    moto: u16,
    number: String,
    authorized: PathBuf,
    state: Mutex<State>,
}

/// An account of its own at one address.
pub(crate) struct Account {
    port: u16,
    shared: Arc<Shared>,
}

impl Account {
    pub(crate) fn url(&self) -> String {
        format!("http://127.0.0.1:{}", self.port)
    }

    /// From now on the program is killed so.
    pub(crate) fn kill(&self, program: u32, kill: Kill) {
        let mut state = self.shared.state.lock().unwrap();
        (state.program, state.kill, state.changing) = (Some(program), Some(kill), 0);
    }

    /// At which call that was; `None` where there were fewer.
    pub(crate) fn killed_at(&self) -> Option<String> {
        let mut state = self.shared.state.lock().unwrap();
        state.kill = None;
        state.killed_at.take()
    }

    /// How often a call was made.
    pub(crate) fn count(&self, call: &str) -> usize {
        self.shared.state.lock().unwrap().calls.iter().filter(|seen| *seen == call).count()
    }

    /// Makes a call.
    pub(crate) fn ask(&self, region: &str, call: &str) -> String {
        let body = format!("Version=2016-11-15&{call}");
        let scope = format!("Credential=x/20260101/{region}/ec2/aws4_request");
        let request = format!(
            "POST / HTTP/1.1\r\nHost: 127.0.0.1\r\nX-Moto-Account-Id: {}\r\nConnection: close\r\n\
             Authorization: AWS4-HMAC-SHA256 {scope}, SignedHeaders=host, Signature=x\r\n\
             Content-Type: application/x-www-form-urlencoded\r\nContent-Length: {}\r\n\r\n{body}",
            self.shared.number,
            body.len(),
        );
        String::from_utf8_lossy(&pass_on(self.shared.moto, request.as_bytes()).unwrap()).into_owned()
    }

    /// What there is in a region, each with its kind.
    pub(crate) fn inventory(&self, region: &str) -> BTreeSet<String> {
        let mut all = BTreeSet::new();
        let mut add = |kind: &str, call: &str, pattern: &str| {
            let answer = self.ask(region, call);
            assert!(answer.starts_with("HTTP/1.1 200"), "{call}: {answer}");
            for found in Regex::new(pattern).unwrap().captures_iter(&answer) {
                all.insert(format!("{kind} {}", &found[1]));
            }
        };
        let living = "Action=DescribeInstances&Filter.1.Name=instance-state-name&Filter.1.Value.1=pending&\
                      Filter.1.Value.2=running&Filter.1.Value.3=stopping&Filter.1.Value.4=stopped";
        add("instance", living, "<instanceId>(i-[^<]+)");
        add("key pair", "Action=DescribeKeyPairs", "<keyName>([^<]+)");
        add("group", "Action=DescribeSecurityGroups", "<groupName>([^<]+)");
        add("image", "Action=DescribeImages&Owner.1=self", "<imageId>(ami-[^<]+)");
        add("snapshot", "Action=DescribeSnapshots&Owner.1=self", "<snapshotId>(snap-[^<]+)");
        add("volume", "Action=DescribeVolumes", "<volumeId>(vol-[^<]+)");
        add("template", "Action=DescribeLaunchTemplates", "<launchTemplateName>([^<]+)");
        all
    }
}

/// Answers one request.
fn serve(shared: &Shared, mut stream: TcpStream) {
    let Some((head, body)) = read(&mut stream) else { return };
    let action = body.split('&').find_map(|pair| pair.strip_prefix("Action=")).unwrap_or_default().to_owned();
    let changes = !["Describe", "Get"].iter().any(|reads| action.starts_with(reads));
    let kill = {
        let mut state = shared.state.lock().unwrap();
        state.calls.push(action.clone());
        state.changing += usize::from(changes);
        let now = state.changing;
        state.kill.filter(|kill| changes && kill.at == now)
    };
    if let Some(Kill { after: false, .. }) = kill {
        return end_program(shared, &action, &stream);
    }
    let lines = head.lines().filter(|line| !line.to_lowercase().starts_with("connection:"));
    let head: Vec<&str> = lines.filter(|line| !line.is_empty()).collect();
    let account = format!("X-Moto-Account-Id: {}", shared.number);
    let request = format!("{}\r\n{account}\r\nConnection: close\r\n\r\n{body}", head.join("\r\n"));
    let Ok(answer) = pass_on(shared.moto, request.as_bytes()) else { return };
    if action == "CreateKeyPair" {
        let_in(shared, &String::from_utf8_lossy(&answer));
    }
    let answer = completed(shared, &action, &body, answer);
    if kill.is_some() {
        return end_program(shared, &action, &stream);
    }
    let _ = stream.write_all(&answer);
}

fn end_program(shared: &Shared, action: &str, stream: &TcpStream) {
    let mut state = shared.state.lock().unwrap();
    let program = state.program.expect("a program").to_string();
    assert!(Command::new("kill").args(["-9", &program]).status().unwrap().success());
    state.killed_at = Some(action.to_owned());
    let _ = stream.shutdown(Shutdown::Both);
}

/// The answer as AWS gives it, where moto leaves out what an image is made of.
fn completed(shared: &Shared, action: &str, body: &str, answer: Vec<u8>) -> Vec<u8> {
    let mut text = String::from_utf8_lossy(&answer).into_owned();
    let made_of = |name: &str| {
        let values = body.split('&').filter_map(|pair| pair.split_once('='));
        values.filter(|(key, _)| key.ends_with(name)).map(|(_, value)| value.to_owned()).collect::<Vec<_>>()
    };
    let told = match action {
        "CopyImage" => {
            made_of("SourceImageId").iter().map(|id| format!("<sourceImageId>{id}</sourceImageId>")).collect()
        }
        "RegisterImage" => {
            let devices = made_of("Ebs.SnapshotId").into_iter().map(|id| {
                format!(
                    "<item><deviceName>/dev/xvda</deviceName><ebs><snapshotId>{id}</snapshotId></ebs></item>"
                )
            });
            devices.collect::<String>()
        }
        "DescribeImages" => {
            for (id, told) in &shared.state.lock().unwrap().images {
                let begin = format!("<imageId>{id}</imageId>");
                let Some((before, image)) = text.split_once(&begin) else { continue };
                text = match before.rsplit_once("<blockDeviceMapping>").filter(|_| told.starts_with("<item>"))
                {
                    Some((before, devices)) => {
                        format!("{before}<blockDeviceMapping>{told}{devices}{begin}{image}")
                    }
                    None => format!("{before}{begin}{told}{image}"),
                };
            }
            let Some((head, body)) = text.split_once("\r\n\r\n") else { return answer };
            let kept = head.lines().filter(|line| !line.to_lowercase().starts_with("content-length:"));
            let head: Vec<&str> = kept.collect();
            return format!("{}\r\nContent-Length: {}\r\n\r\n{body}", head.join("\r\n"), body.len())
                .into_bytes();
        }
        _ => return answer,
    };
    if let Some((_, id)) = text.split_once("<imageId>") {
        let id = id.split('<').next().unwrap_or_default().to_owned();
        shared.state.lock().unwrap().images.insert(id, told);
    }
    answer
}

/// The key of a key pair lets into the instances.
fn let_in(shared: &Shared, answer: &str) {
    let Some((_, rest)) = answer.split_once("<keyMaterial>") else { return };
    let private = rest.split('<').next().unwrap_or_default().trim();
    let file = tempfile::NamedTempFile::new().unwrap();
    std::fs::write(file.path(), format!("{private}\n")).unwrap();
    let public = Command::new("ssh-keygen").arg("-y").arg("-f").arg(file.path()).output().unwrap();
    let mut authorized = std::fs::OpenOptions::new().append(true).open(&shared.authorized).unwrap();
    authorized.write_all(&public.stdout).unwrap();
}

/// The head of a request and its body.
fn read(stream: &mut TcpStream) -> Option<(String, String)> {
    let mut bytes = Vec::new();
    let end = loop {
        let mut piece = [0; 8192];
        let count = stream.read(&mut piece).ok().filter(|count| *count > 0)?;
        bytes.extend_from_slice(&piece[..count]);
        if let Some(end) = bytes.windows(4).position(|window| window == b"\r\n\r\n") {
            break end;
        }
    };
    let head = String::from_utf8_lossy(&bytes[..end]).into_owned();
    let length = head.lines().find_map(|line| {
        let (name, value) = line.split_once(':')?;
        name.eq_ignore_ascii_case("content-length").then(|| value.trim().parse::<usize>().ok())?
    });
    let mut body = bytes.split_off(end + 4);
    let mut rest = vec![0; length.unwrap_or(0).saturating_sub(body.len())];
    stream.read_exact(&mut rest).ok()?;
    body.extend(rest);
    Some((head, String::from_utf8_lossy(&body).into_owned()))
}

fn pass_on(port: u16, request: &[u8]) -> std::io::Result<Vec<u8>> {
    let mut moto = TcpStream::connect(("127.0.0.1", port))?;
    moto.write_all(request)?;
    let mut answer = Vec::new();
    moto.read_to_end(&mut answer)?;
    Ok(answer)
}
