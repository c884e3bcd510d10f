use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};

use tokio::net::TcpListener;

use super::*;
use crate::kit::boot_command::{BootCommand, NotSeen, type_into};
use crate::testing::{Bench, require};

/// A server that says what it is told and keeps what it hears until the client goes.
async fn serve(script: Vec<Step>) -> (SocketAddr, tokio::task::JoinHandle<Vec<u8>>) {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let served = tokio::spawn(async move {
        let (mut stream, _) = listener.accept().await.unwrap();
        for step in script {
            match step {
                // The client may be gone: that is its right.
                Step::Say(bytes) => drop(stream.write_all(&bytes).await),
                Step::Hear(count) => drop(stream.read_exact(&mut vec![0; count]).await),
            }
        }
        let mut heard = Vec::new();
        let _ = stream.read_to_end(&mut heard).await;
        heard
    });
    (address, served)
}

enum Step {
    Say(Vec<u8>),
    Hear(usize),
}

fn say(bytes: impl AsRef<[u8]>) -> Step {
    Step::Say(bytes.as_ref().to_vec())
}

/// The handshake of version 3.8 without a password, with a screen of this size.
fn welcome(width: u16, height: u16) -> Vec<Step> {
    let mut init = [&width.to_be_bytes()[..], &height.to_be_bytes(), &[0; 16], &[0, 0, 0, 4]].concat();
    init.extend(b"fake");
    vec![
        say(b"RFB 003.008\n"),
        Step::Hear(12),
        say([1, 1]),
        Step::Hear(1),
        say([0; 4]),
        Step::Hear(1),
        say(init),
    ]
}

/// What the client sends before it gets its first picture.
const SETUP: usize = 20 + 16 + 10;

fn part(x: u16, y: u16, width: u16, height: u16, encoding: i32, data: &[u8]) -> Vec<u8> {
    let numbers = [x, y, width, height].map(u16::to_be_bytes).concat();
    [&numbers[..], &encoding.to_be_bytes(), data].concat()
}

fn update(parts: &[Vec<u8>]) -> Step {
    say([&[0, 0, 0, parts.len() as u8][..], &parts.concat()].concat())
}

async fn connect(
    script: Vec<Step>,
    password: Option<&str>,
) -> Result<(Vnc, tokio::task::JoinHandle<Vec<u8>>)> {
    let (address, served) = serve(script).await;
    let password = password.map(Secret::new);
    Ok((Vnc::connect(Bench::new().context(), address, password.as_ref()).await?, served))
}

async fn refusal(script: Vec<Step>, password: Option<&str>) -> String {
    connect(script, password).await.unwrap_err().to_string()
}

#[tokio::test]
async fn keys_are_sent_one_by_one_and_nothing_else() {
    let (mut vnc, served) = connect(welcome(640, 480), None).await.unwrap();
    let command = BootCommand::parse(&["aÉ<enter><leftAltOn>"]).unwrap();
    type_into(Bench::new().context(), &command, &mut vnc, Duration::ZERO, Duration::ZERO, None)
        .await
        .unwrap();
    drop(vnc);
    let heard = served.await.unwrap();
    let events: Vec<_> =
        heard.chunks(8).map(|e| (e[0], e[1], u32::from_be_bytes([e[4], e[5], e[6], e[7]]))).collect();
    let expected = [
        (1, 0x61),
        (0, 0x61),
        (1, 0xffe1),
        (1, 0xc9),
        (0, 0xc9),
        (0, 0xffe1),
        (1, 0xff0d),
        (0, 0xff0d),
        (1, 0xffe9),
    ];
    assert_eq!(events, expected.map(|(down, key)| (4, down, key)));
}

#[tokio::test]
async fn refusals_say_why() {
    let reason = |text: &str| say([&(text.len() as u32).to_be_bytes()[..], text.as_bytes()].concat());
    let hello = |version: &[u8]| vec![say(version), Step::Hear(12)];
    let then = |mut script: Vec<Step>, more: Vec<Step>| {
        script.extend(more);
        script
    };
    let handshaking = "Error handshaking with VNC: ";
    for (script, password, message) in [
        (vec![say(b"SSH-2.0-OpenSSH\r\n")], None, "what answers is no VNC server"),
        (then(hello(b"RFB 003.008\n"), vec![say([0]), reason("too many")]), None, "too many"),
        (
            then(hello(b"RFB 003.008\n"), vec![say([1, 2]), Step::Hear(1)]),
            None,
            "the server wants a password",
        ),
        (
            then(hello(b"RFB 003.008\n"), vec![say([2, 19, 16])]),
            None,
            "the server has no security that is known here (it offers 19, 16)",
        ),
        (
            then(
                hello(b"RFB 003.008\n"),
                vec![
                    say([1, 2]),
                    Step::Hear(1),
                    say([9; 16]),
                    Step::Hear(16),
                    say([0, 0, 0, 1]),
                    reason("no"),
                ],
            ),
            Some("x"),
            "security: no",
        ),
        (
            then(
                hello(b"RFB 003.003\n"),
                vec![say([0, 0, 0, 2]), say([9; 16]), Step::Hear(16), say([0, 0, 0, 1])],
            ),
            Some("x"),
            "security: the password was refused",
        ),
        (
            then(hello(b"RFB 003.003\n"), vec![say([0, 0, 0, 0]), reason("")]),
            None,
            "the server refused and gave no reason",
        ),
        (
            then(hello(b"RFB 003.008\n"), vec![say([0, 255, 255, 255, 255])]),
            None,
            "the server sends a text of 4294967295 bytes",
        ),
    ] {
        assert_eq!(refusal(script, password).await, format!("{handshaking}{message}"));
    }
    // A server that goes away.
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let bench = Bench::new();
    let (error, ()) = tokio::join!(Vnc::connect(bench.context(), address, None), async {
        drop(listener.accept().await.unwrap());
        drop(listener);
    });
    assert!(error.unwrap_err().message().starts_with(handshaking));
    let error = Vnc::connect(bench.context(), address, None).await.unwrap_err();
    let refused = format!("Error connecting to VNC: dial tcp {address}: connect: connection refused");
    assert_eq!(error.message(), refused);
}

#[tokio::test]
async fn older_versions_are_spoken_too() {
    for (version, security) in [
        (&b"RFB 003.003\n"[..], vec![say([0, 0, 0, 1])]),
        (b"RFB 003.007\n", vec![say([2, 2, 1]), Step::Hear(1)]),
    ] {
        let mut script = vec![say(version), Step::Hear(12)];
        script.extend(security);
        let mut init = vec![0, 8, 0, 4];
        init.extend([0; 20]);
        script.extend([Step::Hear(1), say(init)]);
        assert_eq!(connect(script, None).await.unwrap().0.size, (8, 4));
    }
}

#[tokio::test]
async fn the_picture_is_put_together_from_what_the_server_sends() {
    let mut script = welcome(4, 2);
    let pixels = |colour: [u8; 3], count: usize| [colour[2], colour[1], colour[0], 0].repeat(count);
    let (red, green) = ([255, 0, 0], [0, 255, 0]);
    script.extend([
        Step::Hear(SETUP),
        // A bell, a clipboard, a palette, then the picture.
        say([2]),
        say([&[3, 0, 0, 0, 0, 0, 0, 3][..], b"abc"].concat()),
        say([&[1, 0, 0, 0, 0, 1][..], &[0; 6]].concat()),
        update(&[part(0, 0, 4, 1, RAW, &pixels(red, 4)), part(0, 1, 4, 1, RAW, &pixels(green, 4))]),
        Step::Hear(10),
        update(&[part(0, 1, 2, 1, COPY, &[0, 0, 0, 0])]),
        Step::Hear(10),
        // Another size; the client asks for all of it.
        update(&[part(0, 0, 2, 1, SIZE, &[])]),
        Step::Hear(10),
        update(&[part(0, 0, 2, 1, RAW, &pixels(green, 2))]),
    ]);
    let (mut vnc, served) = connect(script, None).await.unwrap();
    let screen = vnc.screen().await.unwrap().unwrap();
    assert_eq!(screen.rgb(), [red.repeat(4), green.repeat(4)].concat());
    vnc.changed().await.unwrap();
    let screen = vnc.screen().await.unwrap().unwrap();
    assert_eq!(screen.rgb(), [red.repeat(4), red.repeat(2), green.repeat(2)].concat());
    vnc.changed().await.unwrap();
    let screen = vnc.screen().await.unwrap().unwrap();
    assert_eq!((screen.width(), screen.height(), screen.rgb()), (2, 1, &green.repeat(2)[..]));
    drop(vnc);
    assert_eq!(served.await.unwrap(), b"");
}

#[tokio::test]
async fn a_wait_for_a_change_that_is_given_up_loses_nothing() {
    let mut script = welcome(2, 2);
    let all = part(0, 0, 2, 2, RAW, &[1, 2, 3, 0].repeat(4));
    script.extend([Step::Hear(SETUP), update(std::slice::from_ref(&all)), Step::Hear(10)]);
    let (address, listener) = {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        (listener.local_addr().unwrap(), listener)
    };
    let served = tokio::spawn(async move {
        let (mut stream, _) = listener.accept().await.unwrap();
        for step in script {
            match step {
                Step::Say(bytes) => stream.write_all(&bytes).await.unwrap(),
                Step::Hear(count) => drop(stream.read_exact(&mut vec![0; count]).await.unwrap()),
            }
        }
        // The answer comes byte by byte.
        for byte in [&[0, 0, 0, 1][..], &part(0, 0, 2, 2, RAW, &[9, 8, 7, 0].repeat(4))].concat() {
            stream.write_all(&[byte]).await.unwrap();
            tokio::time::sleep(Duration::from_millis(3)).await;
        }
        stream
    });
    let mut vnc = Vnc::connect(Bench::new().context(), address, None).await.unwrap();
    assert_eq!(vnc.screen().await.unwrap().unwrap().rgb(), [3, 2, 1].repeat(4));
    let mut tries = 0;
    while tokio::time::timeout(Duration::from_millis(5), vnc.changed()).await.is_err() {
        tries += 1;
    }
    assert!(tries > 5, "{tries}");
    assert_eq!(vnc.screen().await.unwrap().unwrap().rgb(), [7, 8, 9].repeat(4));
    served.await.unwrap();
}

#[tokio::test]
async fn what_a_server_sends_is_bounded() {
    let after = |more: Vec<Step>| {
        let mut script = welcome(4, 4);
        script.push(Step::Hear(SETUP));
        script.extend(more);
        script
    };
    for (script, message) in [
        (
            after(vec![update(&[part(1, 0, 4, 1, RAW, &[])])]),
            "VNC: the server sends a part that lies outside of the screen",
        ),
        (
            after(vec![update(&[part(0, 0, 1, 1, COPY, &[0, 4, 0, 0])])]),
            "VNC: the server sends a part that lies outside of the screen",
        ),
        (
            after(vec![update(&[part(0, 0, 1, 1, 16, &[])])]),
            "VNC: the server sends pixels in the unknown way 16",
        ),
        (after(vec![update(&[part(0, 0, 60000, 60000, SIZE, &[])])]), "a screen of 60000x60000 is too large"),
        (after(vec![say([9])]), "VNC: the server sends a message of the unknown kind 9"),
        (after(vec![say([3, 0, 0, 0, 255, 0, 0, 0])]), "VNC: the server sends a text of 4278190080 bytes"),
        (welcome(60000, 60000), "a screen of 60000x60000 is too large"),
    ] {
        let (mut vnc, _) = connect(script, None).await.unwrap();
        assert_eq!(vnc.screen().await.unwrap_err().to_string(), message);
    }
}

/// A QEMU without a disk, which ends with this value.
struct Qemu {
    program: Child,
    address: SocketAddr,
}

impl Qemu {
    fn start(program: &Path, arguments: &[&str], vnc: &str) -> Self {
        let port = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port().max(5901);
        let vnc = format!("127.0.0.1:{}{vnc}", port - 5900);
        let program = Command::new(program)
            .args(["-accel", "tcg", "-display", "none", "-m", "64", "-vnc", &vnc])
            .args(arguments)
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .spawn()
            .unwrap();
        Self { program, address: SocketAddr::from(([127, 0, 0, 1], port)) }
    }

    /// Connects as soon as it listens.
    async fn connect(&self, bench: &Bench, password: Option<&str>) -> Result<Vnc> {
        let password = password.map(Secret::new);
        loop {
            match Vnc::connect(bench.context(), self.address, password.as_ref()).await {
                Err(e) if e.message().contains("connecting") => {
                    tokio::time::sleep(Duration::from_millis(50)).await;
                }
                result => return result,
            }
        }
    }
}

impl Drop for Qemu {
    fn drop(&mut self) {
        let _ = self.program.kill();
        let _ = self.program.wait();
    }
}

fn qemu() -> Option<PathBuf> {
    require("qemu-system-x86_64")
}

async fn boot(bench: &Bench, vnc: &mut Vnc, text: &str) -> Result<()> {
    let command = BootCommand::parse(&[text]).unwrap();
    type_into(bench.context(), &command, vnc, Duration::from_millis(20), Duration::ZERO, None).await
}

#[tokio::test]
async fn qemu_shows_its_screen_and_takes_keys() {
    let Some(program) = qemu() else { return };
    let bench = Bench::new();
    let qemu = Qemu::start(&program, &["-net", "none", "-boot", "menu=on,splash-time=60000"], "");
    let mut vnc = qemu.connect(&bench, None).await.unwrap();
    boot(&bench, &mut vnc, "<wait \"Press ESC for boot menu\" 1m><esc><wait \"Select boot device:\" 1m>")
        .await
        .unwrap();
    // A list of devices by number; the first is the disk that is not there.
    boot(&bench, &mut vnc, "<wait \"1.\" 1m><wait still 2s 1m>").await.unwrap();
    let screen = vnc.screen().await.unwrap().unwrap();
    assert_eq!((screen.width(), screen.height()), (720, 400));
    let text = screen.text();
    assert!(text.starts_with("SeaBIOS (version ") && !text.contains('\u{fffd}'), "{text}");
    boot(&bench, &mut vnc, "1<wait \"Booting from\" 1m>").await.unwrap();
    let error = boot(&bench, &mut vnc, "<wait \"no such text\" 2s>").await.unwrap_err();
    assert!(
        error.message().starts_with("\"no such text\" did not show within 2s. The last that was seen:\n"),
        "{error}"
    );
    assert!(error.message().contains("Booting from"), "{error}");
    assert!(NotSeen::of(&error).unwrap().screen.as_ref().unwrap().png().unwrap().len() > 1000);
}

#[tokio::test]
async fn every_letter_of_a_vga_is_read() {
    let Some(program) = qemu() else { return };
    let bench = Bench::new();
    // A boot sector that prints the characters from 33 on by the BIOS.
    let mut disk =
        b"\x31\xc0\x8e\xd8\xb0\x21\xb4\x0e\xbb\x07\x00\x50\xcd\x10\x58\xfe\xc0\x3c\xff\x75\xf1\xeb\xfe"
            .to_vec();
    disk.resize(510, 0);
    disk.extend(b"\x55\xaa");
    disk.resize(512 * 2880, 0);
    let path = bench.folder().join("disk.img");
    std::fs::write(&path, disk).unwrap();
    let drive = format!("file={},format=raw,if=floppy", path.display());
    let qemu = Qemu::start(&program, &["-net", "none", "-boot", "a", "-drive", &drive], "");
    let mut vnc = qemu.connect(&bench, None).await.unwrap();
    boot(&bench, &mut vnc, "<wait \"Booting from Floppy\" 1m><wait \"xyz{|}~\" 1m><wait still 1s 1m>")
        .await
        .unwrap();
    let text = vnc.screen().await.unwrap().unwrap().text().replace('\n', "");
    let ascii: String = ('!'..='~').collect();
    assert!(text.contains(&ascii), "{text}");
    assert!(text.contains("ÇüéâäàåçêëèïîìÄÅÉæÆôöòûùÿÖÜ¢£¥₧ƒáíóúñÑªº¿⌐¬½¼¡«»░"), "{text}");
    assert!(text.contains("│┤╡╢╖╕╣║╗╝╜╛┐└┴┬├─┼╞╟╚╔╩╦╠═╬╧╨╤╥╙╘╒╓╫╪┘┌"), "{text}");
}

#[tokio::test]
async fn qemu_takes_the_right_password_only() {
    let Some(program) = qemu() else { return };
    let bench = Bench::new();
    let secret = ["-net", "none", "-object", "secret,id=word,data=s3cret!"];
    let qemu = Qemu::start(&program, &secret, ",password-secret=word");
    let wrong = qemu.connect(&bench, Some("wrong")).await.unwrap_err();
    assert_eq!(wrong.message(), "Error handshaking with VNC: security: Authentication failed");
    let none = qemu.connect(&bench, None).await.unwrap_err();
    assert_eq!(none.message(), "Error handshaking with VNC: the server wants a password");
    let mut vnc = qemu.connect(&bench, Some("s3cret!")).await.unwrap();
    assert!(vnc.screen().await.unwrap().is_some());
}
