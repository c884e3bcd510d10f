//! Clients that are not Ansible: strangers, garbage, floods, and ones that go in the middle.
#![cfg(unix)]

use std::path::Path;
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use packer_core::testing::{Bench, LocalMachine};
use packer_core::{Command, Communicator, Context, ExitStatus, Globs, Result, Source, async_trait};
use russh::client::{self, Handle};
use russh::keys::ssh_key::EcdsaCurve;
use russh::keys::{Algorithm, PrivateKey, PrivateKeyWithHashAlg, PublicKeyOrCertificate};
use russh::{Channel, ChannelMsg};
use russh_sftp::client::RawSftpSession;
use russh_sftp::protocol::{FileAttributes, OpenFlags};
use tokio::io::{AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::net::TcpStream;

use super::{MOST_CHANNELS, MOST_STRANGERS, Proxy, Settings};

/// A folder of this computer's that remembers how uploads ended.
struct Machine {
    local: LocalMachine,
    uploads: Mutex<Vec<Result<(), String>>>,
}

#[async_trait]
impl Communicator for Machine {
    async fn exec(&self, cx: &Context, command: Command<'_>) -> Result<ExitStatus> {
        self.local.exec(cx, command).await
    }

    async fn upload(&self, cx: &Context, source: Source<'_>, destination: &str) -> Result<()> {
        let partial = format!("{destination}.partial");
        let note = Note(self, Some(Err("it was dropped".to_owned())));
        let done = self.local.upload(cx, source, &partial).await;
        let partial = self.local.path(&partial);
        match &done {
            Ok(()) => std::fs::rename(partial, self.local.path(destination)).unwrap(),
            Err(_) => std::fs::remove_file(partial).unwrap(),
        }
        note.ended(done.as_ref().map_err(ToString::to_string).copied());
        done
    }

    async fn upload_dir(&self, cx: &Context, source: &Path, to: &str, exclude: &Globs) -> Result<()> {
        self.local.upload_dir(cx, source, to, exclude).await
    }

    async fn download(
        &self,
        cx: &Context,
        source: &str,
        sink: &mut (dyn AsyncWrite + Send + Unpin),
    ) -> Result<()> {
        self.local.download(cx, source, sink).await
    }

    async fn download_dir(&self, cx: &Context, source: &str, to: &Path, exclude: &Globs) -> Result<()> {
        self.local.download_dir(cx, source, to, exclude).await
    }
}

/// Writes down how an upload ended, also where its future is dropped.
struct Note<'a>(&'a Machine, Option<Result<(), String>>);

impl Note<'_> {
    fn ended(mut self, how: Result<(), String>) {
        self.1 = Some(how);
    }
}

impl Drop for Note<'_> {
    fn drop(&mut self) {
        self.0.uploads.lock().unwrap().extend(self.1.take());
    }
}

struct World {
    bench: Bench,
    machine: Arc<Machine>,
    proxy: Proxy,
    key: Arc<PrivateKey>,
}

fn key() -> PrivateKey {
    PrivateKey::random(&mut rand::rng(), Algorithm::Ecdsa { curve: EcdsaCurve::NistP256 }).unwrap()
}

struct Trusting;

impl client::Handler for Trusting {
    type Error = russh::Error;

    async fn check_server_key(&mut self, _: &PublicKeyOrCertificate) -> Result<bool, Self::Error> {
        Ok(true)
    }
}

impl World {
    async fn new() -> Self {
        let bench = Bench::new();
        let local = LocalMachine::new(bench.folder());
        let machine = Arc::new(Machine { local, uploads: Mutex::default() });
        let key = Arc::new(key());
        let settings = Settings {
            first_port: 0,
            host_key: self::key(),
            authorized: key.public_key().clone(),
            user: "me".into(),
            sftp_command: None,
        };
        let proxy = Proxy::start(bench.context(), machine.clone(), settings).await.unwrap();
        Self { bench, machine, proxy, key }
    }

    async fn tcp(&self) -> TcpStream {
        TcpStream::connect(("127.0.0.1", self.proxy.port())).await.unwrap()
    }

    async fn enter_as(&self, user: &str, key: Arc<PrivateKey>) -> Option<Handle<Trusting>> {
        let address = ("127.0.0.1", self.proxy.port());
        let mut session = client::connect(Arc::default(), address, Trusting).await.unwrap();
        let key = PrivateKeyWithHashAlg::new(key, None);
        session.authenticate_publickey(user, key).await.unwrap().success().then_some(session)
    }

    async fn enter(&self) -> Handle<Trusting> {
        self.enter_as("me", self.key.clone()).await.expect("it is let in")
    }

    async fn sftp(&self, session: &Handle<Trusting>) -> RawSftpSession {
        let channel = session.channel_open_session().await.unwrap();
        channel.request_subsystem(true, "sftp").await.unwrap();
        let sftp = RawSftpSession::new(channel.into_stream());
        sftp.init().await.unwrap();
        sftp
    }

    /// That who is let in is still served.
    async fn serves(&self) {
        let session = self.enter().await;
        assert_eq!(run(&session, "echo hello; exit 3").await, ("hello\n".to_owned(), Some(3)));
    }

    async fn uploads(&self, many: usize) -> Vec<Result<(), String>> {
        let end = Instant::now() + Duration::from_secs(20);
        loop {
            let uploads = self.machine.uploads.lock().unwrap().clone();
            if uploads.len() >= many {
                return uploads;
            }
            assert!(Instant::now() < end, "{uploads:?}");
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    }

    fn files(&self) -> Vec<String> {
        let entries = std::fs::read_dir(self.bench.folder()).unwrap();
        let mut names: Vec<String> =
            entries.map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect();
        names.sort();
        names
    }
}

async fn run(session: &Handle<Trusting>, command: &str) -> (String, Option<u32>) {
    let channel = session.channel_open_session().await.unwrap();
    channel.exec(true, command).await.unwrap();
    finish(channel).await
}

/// What comes on a channel until it is closed, and the exit status.
async fn finish(mut channel: Channel<client::Msg>) -> (String, Option<u32>) {
    let (mut printed, mut code) = (Vec::new(), None);
    while let Some(message) = channel.wait().await {
        match message {
            ChannelMsg::Data { data } => printed.extend_from_slice(&data),
            ChannelMsg::ExitStatus { exit_status } => code = Some(exit_status),
            _ => {}
        }
    }
    (String::from_utf8_lossy(&printed).into_owned(), code)
}

#[tokio::test(flavor = "multi_thread")]
async fn strangers_are_not_let_in_and_keep_nobody_out() {
    let world = World::new().await;
    assert!(world.enter_as("me", Arc::new(key())).await.is_none(), "another key");
    assert!(world.enter_as("root", world.key.clone()).await.is_none(), "another user");
    // Some that say nothing, some that stop in the middle of a login, some that send garbage.
    let mut strangers = Vec::new();
    for n in 0..3 * MOST_STRANGERS {
        let mut socket = world.tcp().await;
        let said: &[u8] = match n % 3 {
            0 => b"",
            1 => b"SSH-2.0-half\r\n\0\0\x01\x2c\x04\x14",
            _ => &[0xff; 9000],
        };
        // It may be cut off already.
        let _ = socket.write_all(said).await;
        strangers.push(socket);
    }
    world.serves().await;
    // Those that waited longest have gone.
    let gone = async {
        let mut rest = Vec::new();
        strangers[0].read_to_end(&mut rest).await.map(drop)
    };
    // An end or an error, but no waiting.
    let _ = tokio::time::timeout(Duration::from_secs(10), gone).await.expect("it was cut off");
    world.proxy.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_flood_of_channels_has_an_end_and_harms_no_other_connection() {
    let world = World::new().await;
    let session = world.enter().await;
    let mut channels = Vec::new();
    for _ in 0..MOST_CHANNELS + 500 {
        if let Ok(channel) = session.channel_open_session().await {
            channels.push(channel);
        }
    }
    assert_eq!(channels.len(), MOST_CHANNELS);
    for channel in &channels[..40] {
        channel.exec(false, "sleep 1000").await.unwrap();
    }
    world.serves().await;
    // What is closed makes room.
    channels.pop().unwrap().close().await.unwrap();
    let end = Instant::now() + Duration::from_secs(10);
    while session.channel_open_session().await.is_err() {
        assert!(Instant::now() < end);
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    // What is no request of SSH's ends only its own channel.
    for command in [b"\xff\xfe".to_vec(), b"scp -t".to_vec(), vec![b'x'; 30_000]] {
        let session = world.enter().await;
        let channel = session.channel_open_session().await.unwrap();
        channel.exec(true, command).await.unwrap();
        channel.close().await.unwrap();
        assert_eq!(run(&session, "echo on").await.0, "on\n");
    }
    let began = Instant::now();
    world.proxy.end().await;
    assert!(began.elapsed() < Duration::from_secs(5), "{:?}", began.elapsed());
}

#[tokio::test(flavor = "multi_thread")]
async fn sftp_that_makes_no_sense_is_refused() {
    let world = World::new().await;
    let session = world.enter().await;
    let sftp = world.sftp(&session).await;
    for handle in ["", "nope", "2", "18446744073709551616"] {
        assert!(sftp.read(handle, 0, 10).await.is_err());
        assert!(sftp.write(handle, 0, vec![0; 10]).await.is_err());
        assert!(sftp.readdir(handle).await.is_err() && sftp.fstat(handle).await.is_err());
        assert!(sftp.close(handle).await.is_err());
    }
    let write = OpenFlags::WRITE | OpenFlags::CREATE;
    let file = sftp.open("a", write, FileAttributes::empty()).await.unwrap().handle;
    assert!(sftp.read(&file, 0, 10).await.is_err() && sftp.readdir(&file).await.is_err());
    assert!(sftp.write(&file, u64::MAX, vec![0; 10]).await.is_err(), "it is written from its beginning");
    sftp.write(&file, 0, b"hello".to_vec()).await.unwrap();
    sftp.close(&file).await.unwrap();
    assert!(sftp.close(&file).await.is_err());
    let file = sftp.open("a", OpenFlags::READ, FileAttributes::empty()).await.unwrap().handle;
    assert_eq!(sftp.read(&file, 0, u32::MAX).await.unwrap().data, b"hello");
    assert!(sftp.read(&file, 1 << 60, 1).await.is_err() && sftp.read(&file, 0, 1).await.is_err());
    let mut handles = Vec::new();
    while let Ok(folder) = sftp.opendir(".").await {
        handles.push(folder.handle);
        assert!(handles.len() <= super::sftp::MOST_OPEN);
    }

    for packet in [&[0xff; 600_000][..], b"\0\0\0\0", b"\0\0\0\x05\x03\0\0\0\x01", b"\0\x03\xff\xff\x06"] {
        let mut channel = session.channel_open_session().await.unwrap();
        channel.request_subsystem(true, "sftp").await.unwrap();
        channel.data(packet).await.unwrap();
        channel.eof().await.unwrap();
        let ended = async { while channel.wait().await.is_some() {} };
        tokio::time::timeout(Duration::from_secs(15), ended).await.expect("it ends");
    }
    world.serves().await;
    assert_eq!(world.uploads(1).await, [Ok(())]);
    assert_eq!(world.files(), ["a"]);
    world.proxy.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn half_a_file_is_none() {
    let world = World::new().await;
    let write = OpenFlags::WRITE | OpenFlags::CREATE;
    let half = |name: &'static str| {
        let world = &world;
        async move {
            let session = world.enter().await;
            let sftp = world.sftp(&session).await;
            let file = sftp.open(name, write, FileAttributes::empty()).await.unwrap().handle;
            sftp.write(&file, 0, vec![1; 200_000]).await.unwrap();
            (session, sftp)
        }
    };
    // The client goes, with its connection or with the channel alone.
    drop(half("a").await);
    world.uploads(1).await;
    let (session, sftp) = half("b").await;
    sftp.close_session().unwrap();
    world.uploads(2).await;
    drop(session);
    let scp = |header: &'static str| {
        let world = &world;
        async move {
            let session = world.enter().await;
            let channel = session.channel_open_session().await.unwrap();
            channel.exec(true, "scp -p -t -- -c").await.unwrap();
            channel.data(header.as_bytes()).await.unwrap();
            (session, channel)
        }
    };
    let client = scp("C0644 100000 c\nhalf").await;
    let end = Instant::now() + Duration::from_secs(10);
    while !world.files().contains(&"-c.partial".to_owned()) {
        assert!(Instant::now() < end, "{:?}", world.files());
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    drop(client);
    world.uploads(3).await;
    let (_session, channel) = scp("C0644 100000 c\nhalf").await;
    channel.eof().await.unwrap();
    assert_eq!(finish(channel).await.1, Some(1));
    // Whole, with a name that commands take for an option.
    let (_session, channel) = scp("T1700000000 0 1700000000 0\nC0640 4 c\nhalf\0").await;
    channel.eof().await.unwrap();
    assert_eq!(finish(channel).await.1, Some(0));
    let found = std::fs::metadata(world.bench.folder().join("-c")).unwrap();
    let modified = found.modified().unwrap().duration_since(std::time::UNIX_EPOCH).unwrap();
    assert_eq!((found.len(), modified.as_secs()), (4, 1_700_000_000));
    assert_eq!(std::os::unix::fs::PermissionsExt::mode(&found.permissions()) & 0o777, 0o640);
    // The server goes: what was begun has ended when that is told.
    let _client = half("d").await;
    let World { machine, proxy, bench, .. } = world;
    proxy.end().await;
    let uploads = machine.uploads.lock().unwrap().clone();
    assert_eq!(
        uploads.iter().map(Result::is_ok).collect::<Vec<_>>(),
        [false, false, false, false, true, false]
    );
    let whole = std::fs::read_dir(bench.folder()).unwrap().map(|entry| entry.unwrap().file_name());
    let whole: Vec<_> = whole.filter(|name| !name.to_string_lossy().ends_with(".partial")).collect();
    assert_eq!(whole, ["-c"]);
}
