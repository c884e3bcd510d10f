//! A client of VNC (the protocol RFB, RFC 6143): types, and sees the screen.
//!
//! ```no_run
//! # async fn type_at(cx: &packer_core::Context) -> packer_core::Result<()> {
//! use packer_core::kit::boot_command::{self, BootCommand};
//! use packer_core::kit::vnc::Vnc;
//! use packer_core::Secret;
//! use std::time::Duration;
//!
//! let mut vnc = Vnc::connect(cx, "127.0.0.1:5901".parse().unwrap(), Some(&Secret::new("hunter2"))).await?;
//! let command = BootCommand::parse(&["<wait \"login:\">root<enter>"]).unwrap();
//! boot_command::type_into(cx, &command, &mut vnc, Duration::from_millis(100), Duration::ZERO, None).await
//! # }
//! ```

mod handshake;
#[cfg(test)]
mod tests;

use std::net::SocketAddr;
use std::time::Duration;

use async_trait::async_trait;
use bytes::{Buf, BufMut, BytesMut};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

use crate::context::Context;
use crate::error::{Error, Result, os_text};
use crate::kit::boot_command::{Key, KeyDriver, Motion};
use crate::kit::screen::Screen;
use crate::secrets::Secret;

/// A server answers at once, or not at all.
const HANDSHAKE: Duration = Duration::from_secs(30);
/// The longest text of a clipboard that is read over.
const MOST_CLIPBOARD: u32 = 16 * 1024 * 1024;

/// Ways to send a part of the screen: pixels; a part that stands elsewhere already; none, but another size of the screen.
const RAW: i32 = 0;
const COPY: i32 = 1;
const SIZE: i32 = -223;

/// A connection to a VNC server. Until [`screen`](KeyDriver::screen) is called nothing is asked of the server; then it sends
/// what changes.
#[derive(Debug)]
pub struct Vnc {
    stream: TcpStream,
    incoming: BytesMut,
    outgoing: BytesMut,
    size: (u16, u16),
    /// The picture as far as it is known; `None` until it is asked for.
    picture: Option<Screen>,
    /// Whether every part of the picture was sent.
    whole: bool,
    /// Whether the server owes what changed.
    asked: bool,
    /// Whether it sent something since the picture was last looked at.
    fresh: bool,
    awaiting: Awaiting,
}

/// What the server sends next.
#[derive(Debug, Clone, Copy)]
enum Awaiting {
    Message,
    /// So many bytes that say nothing here.
    Nothing(u64),
    /// So many parts of the screen.
    Parts(u16),
    /// Lines of one, and then so many more.
    Pixels(Part, u16),
}

/// A part of the screen.
#[derive(Debug, Clone, Copy)]
struct Part {
    x: usize,
    y: usize,
    width: usize,
    height: usize,
}

impl Vnc {
    /// Connects and logs in: without a password, or with one, of which the protocol takes the first eight bytes.
    ///
    /// # Errors
    /// `Error connecting to VNC: …` where nobody listens there, `Error handshaking with VNC: …` where that is no VNC server, it
    /// refuses, or says nothing for 30 seconds.
    pub async fn connect(cx: &Context, address: SocketAddr, password: Option<&Secret>) -> Result<Self> {
        cx.until_cancelled(async {
            let stream = TcpStream::connect(address).await;
            let mut stream = stream.map_err(|e| {
                let why = format!("Error connecting to VNC: dial tcp {address}: connect: {}", os_text(&e));
                Error::network(why).with_source(e)
            })?;
            // A key is a small message; a server that cannot be asked for that takes it later.
            let _ = stream.set_nodelay(true);
            let shaken = tokio::time::timeout(HANDSHAKE, handshake::shake(&mut stream, password)).await;
            let shaken = shaken.unwrap_or_else(|_| Err(format!("no answer within {HANDSHAKE:?}")));
            let size = shaken.map_err(|why| Error::network(format!("Error handshaking with VNC: {why}")))?;
            Ok(Self {
                stream,
                incoming: BytesMut::new(),
                outgoing: BytesMut::new(),
                size,
                picture: None,
                whole: false,
                asked: false,
                fresh: false,
                awaiting: Awaiting::Message,
            })
        })
        .await
    }

    /// Sends what is to be sent.
    async fn send(&mut self) -> Result<()> {
        while self.outgoing.has_remaining() {
            let sent = self.stream.write(&self.outgoing).await.map_err(broken)?;
            self.outgoing.advance(sent);
        }
        Ok(())
    }

    /// Asks for the whole screen, or for what changes.
    async fn ask(&mut self, whole: bool) -> Result<()> {
        if self.picture.is_none() {
            self.picture = Some(Screen::black(self.size.0.into(), self.size.1.into())?);
            // Pixels of 32 bits, the lowest byte first: blue, green, red, nothing.
            self.outgoing.put_slice(&[0, 0, 0, 0, 32, 24, 0, 1, 0, 255, 0, 255, 0, 255, 16, 8, 0, 0, 0, 0]);
            self.outgoing.put_slice(&[2, 0, 0, 3]);
            [RAW, COPY, SIZE].into_iter().for_each(|encoding| self.outgoing.put_i32(encoding));
        }
        if whole || !self.asked {
            self.outgoing.put_slice(&[3, u8::from(!whole), 0, 0, 0, 0]);
            self.outgoing.put_u16(self.size.0);
            self.outgoing.put_u16(self.size.1);
            self.asked = true;
        }
        self.send().await
    }

    /// Reads until the server has sent an update of the screen. Dropping the future loses nothing.
    async fn update(&mut self) -> Result<()> {
        self.send().await?;
        loop {
            match self.awaiting {
                Awaiting::Message => self.message().await?,
                Awaiting::Nothing(0) => self.awaiting = Awaiting::Message,
                Awaiting::Nothing(left) => {
                    self.need(1).await?;
                    let here = left.min(self.incoming.len() as u64);
                    self.incoming.advance(here as usize);
                    self.awaiting = Awaiting::Nothing(left - here);
                }
                Awaiting::Parts(0) => {
                    self.awaiting = Awaiting::Message;
                    (self.asked, self.fresh) = (false, true);
                    return Ok(());
                }
                Awaiting::Parts(left) => self.part(left - 1).await?,
                Awaiting::Pixels(part, left) if part.height == 0 => self.awaiting = Awaiting::Parts(left),
                Awaiting::Pixels(part, left) => {
                    self.need(part.width * 4).await?;
                    let sent = self.incoming.split_to(part.width * 4);
                    let line = self.picture.as_mut().and_then(|p| p.part_mut(part.x, part.y, part.width));
                    let line = line.ok_or_else(outside)?;
                    for (to, from) in line.chunks_exact_mut(3).zip(sent.chunks_exact(4)) {
                        if let (&[blue, green, red, _], [r, g, b]) = (from, to) {
                            (*r, *g, *b) = (red, green, blue);
                        }
                    }
                    let rest = Part { y: part.y + 1, height: part.height - 1, ..part };
                    self.awaiting = Awaiting::Pixels(rest, left);
                }
            }
        }
    }

    /// The beginning of a message.
    async fn message(&mut self) -> Result<()> {
        self.need(1).await?;
        self.awaiting = match self.incoming.first() {
            Some(0) => {
                self.need(4).await?;
                self.incoming.advance(2);
                Awaiting::Parts(self.incoming.get_u16())
            }
            // Colours of a palette, which no picture here has.
            Some(1) => {
                self.need(6).await?;
                self.incoming.advance(4);
                Awaiting::Nothing(u64::from(self.incoming.get_u16()) * 6)
            }
            // A bell.
            Some(2) => Awaiting::Nothing(1),
            // A clipboard.
            Some(3) => {
                self.need(8).await?;
                self.incoming.advance(4);
                let length = self.incoming.get_u32();
                if length > MOST_CLIPBOARD {
                    return Err(Error::network(format!("VNC: the server sends a text of {length} bytes")));
                }
                Awaiting::Nothing(length.into())
            }
            other => {
                let kind = other.copied().unwrap_or_default();
                return Err(Error::network(format!(
                    "VNC: the server sends a message of the unknown kind {kind}"
                )));
            }
        };
        Ok(())
    }

    /// The beginning of a part of the screen, behind which come so many more.
    async fn part(&mut self, left: u16) -> Result<()> {
        self.need(12).await?;
        let mut head = self.incoming.get(..12).unwrap_or_default();
        let [x, y, width, height] = [(); 4].map(|()| usize::from(head.get_u16()));
        let part = Part { x, y, width, height };
        match head.get_i32() {
            RAW => {
                self.incoming.advance(12);
                self.inside(part)?;
                // A part without width has no bytes, however high it is.
                let height = if width == 0 { 0 } else { height };
                self.awaiting = Awaiting::Pixels(Part { height, ..part }, left);
                self.whole = true;
            }
            COPY => {
                self.need(16).await?;
                self.incoming.advance(12);
                let from =
                    Part { x: self.incoming.get_u16().into(), y: self.incoming.get_u16().into(), ..part };
                self.inside(part)?;
                self.inside(from)?;
                self.copy(from, part)?;
                self.awaiting = Awaiting::Parts(left);
            }
            SIZE => {
                self.incoming.advance(12);
                self.picture = Some(Screen::black(width as u32, height as u32)?);
                self.size = (width as u16, height as u16);
                self.whole = false;
                self.awaiting = Awaiting::Parts(left);
            }
            other => {
                return Err(Error::network(format!(
                    "VNC: the server sends pixels in the unknown way {other}"
                )));
            }
        }
        Ok(())
    }

    fn inside(&self, part: Part) -> Result<()> {
        let (width, height) = (usize::from(self.size.0), usize::from(self.size.1));
        match part.x + part.width <= width && part.y + part.height <= height {
            true => Ok(()),
            false => Err(outside()),
        }
    }

    /// Copies a part; both may overlap.
    fn copy(&mut self, from: Part, to: Part) -> Result<()> {
        let picture = self.picture.as_mut().ok_or_else(outside)?;
        let mut copy_line = |line: usize| {
            let pixels = picture.part_mut(from.x, from.y + line, from.width)?.to_vec();
            picture.part_mut(to.x, to.y + line, to.width)?.copy_from_slice(&pixels);
            Some(())
        };
        let copied = match to.y > from.y {
            true => (0..to.height).rev().try_for_each(&mut copy_line),
            false => (0..to.height).try_for_each(&mut copy_line),
        };
        copied.ok_or_else(outside)
    }

    /// Reads until so many bytes are here.
    async fn need(&mut self, bytes: usize) -> Result<()> {
        const AT_ONCE: usize = 64 * 1024;
        while self.incoming.len() < bytes {
            self.incoming.reserve(AT_ONCE.max(bytes));
            if self.stream.read_buf(&mut self.incoming).await.map_err(broken)? == 0 {
                return Err(Error::network("VNC: the server closed the connection"));
            }
        }
        Ok(())
    }
}

fn outside() -> Error {
    Error::network("VNC: the server sends a part that lies outside of the screen")
}

fn broken(error: std::io::Error) -> Error {
    Error::network(format!("VNC: {}", os_text(&error))).with_source(error)
}

#[async_trait]
impl KeyDriver for Vnc {
    /// Sends a key: a character by its number in Unicode.
    async fn key(&mut self, key: Key, motion: Motion) -> Result<()> {
        let keysym = match key {
            Key::Char(c) => u32::from(c),
            Key::Special(special) => special.keysym(),
        };
        self.outgoing.put_slice(&[4, u8::from(motion == Motion::Down), 0, 0]);
        self.outgoing.put_u32(keysym);
        self.send().await
    }

    async fn screen(&mut self) -> Result<Option<Screen>> {
        while !(self.fresh && self.whole) {
            self.ask(true).await?;
            self.update().await?;
        }
        self.fresh = false;
        Ok(self.picture.clone())
    }

    async fn changed(&mut self) -> Result<()> {
        if !self.fresh {
            self.ask(!self.whole).await?;
            self.update().await?;
        }
        Ok(())
    }
}
