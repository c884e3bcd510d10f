//! How much a server lists by SFTP: the library keeps all names of a folder, however many come.

use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::task::{Context, Poll};

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

/// How many names a server may list in one transfer, and in how many bytes.
const MOST_NAMES: u64 = 1 << 20;
const MOST_BYTES: u64 = 256 << 20;
/// The kind of packet that holds names (SSH_FXP_NAME).
const NAME: u8 = 104;

/// Whether a server has listed too much.
#[derive(Clone, Default)]
pub(super) struct TooMany(Arc<AtomicBool>);

impl TooMany {
    /// What is to be said then.
    pub(super) fn text(&self) -> Option<String> {
        let exceeded = self.0.load(Ordering::Relaxed);
        exceeded.then(|| {
            format!("the machine lists more than {MOST_NAMES} names, or {} MiB of them", MOST_BYTES >> 20)
        })
    }
}

/// A stream that carries SFTP and ends when the server lists too much.
pub(super) struct Listed<S> {
    inner: S,
    packets: Packets,
    most_names: u64,
    too_many: TooMany,
}

impl<S> Listed<S> {
    pub(super) fn new(inner: S, too_many: TooMany) -> Self {
        Self { inner, packets: Packets::default(), most_names: MOST_NAMES, too_many }
    }
}

/// What has come: each packet is its length (4 bytes), its kind (1), then, where it holds names, the number of the
/// request (4) and how many they are (4).
#[derive(Default)]
struct Packets {
    /// The beginning of a packet, until all of that is known.
    head: Vec<u8>,
    /// How much of the packet is still to come.
    rest: usize,
    names: u64,
    bytes: u64,
}

impl Packets {
    fn see(&mut self, mut bytes: &[u8]) {
        while let Some((byte, others)) = bytes.split_first() {
            if self.rest > 0 {
                let seen = self.rest.min(bytes.len());
                self.rest -= seen;
                bytes = &bytes[seen..];
                continue;
            }
            self.head.push(*byte);
            bytes = others;
            match self.head[..] {
                [a, b, c, d, NAME, _, _, _, _, e, f, g, h] => {
                    let length = u32::from_be_bytes([a, b, c, d]);
                    // A server that sends packets without names sends something all the same.
                    self.names += u64::from(u32::from_be_bytes([e, f, g, h])).max(1);
                    self.bytes += u64::from(length);
                    self.begin(length, 9);
                }
                [a, b, c, d, kind, ..] => {
                    let length = u32::from_be_bytes([a, b, c, d]);
                    if kind != NAME || length < 9 {
                        self.begin(length, 1);
                    }
                }
                _ => {}
            }
        }
    }

    /// All that counts of a packet is known; this much of it has come.
    fn begin(&mut self, length: u32, seen: u32) {
        self.rest = length.saturating_sub(seen) as usize;
        self.head.clear();
    }
}

impl<S: AsyncRead + Unpin> AsyncRead for Listed<S> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let before = buffer.filled().len();
        let result = Pin::new(&mut self.inner).poll_read(cx, buffer);
        self.packets.see(&buffer.filled()[before..]);
        if self.packets.names > self.most_names || self.packets.bytes > MOST_BYTES {
            self.too_many.0.store(true, Ordering::Relaxed);
            return Poll::Ready(Err(io::ErrorKind::QuotaExceeded.into()));
        }
        result
    }
}

impl<S: AsyncWrite + Unpin> AsyncWrite for Listed<S> {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.inner).poll_write(cx, bytes)
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.inner).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.inner).poll_shutdown(cx)
    }
}

#[cfg(test)]
mod tests {
    use tokio::io::{AsyncReadExt, AsyncWriteExt};

    use super::*;

    fn packet(kind: u8, body: &[u8]) -> Vec<u8> {
        let length = (body.len() as u32 + 1).to_be_bytes();
        [&length[..], &[kind], body].concat()
    }

    fn names(count: u32) -> Vec<u8> {
        packet(NAME, &[&[0, 0, 0, 7], &count.to_be_bytes()[..], b"and the names"].concat())
    }

    #[test]
    fn names_are_counted_however_the_bytes_come() {
        // What looks like names within another packet is none.
        let all = [names(3), packet(103, &names(1000)), packet(NAME, b"short"), names(0), names(5)].concat();
        for size in [1, 2, 5, 9, 13, 64, all.len()] {
            let mut packets = Packets::default();
            all.chunks(size).for_each(|piece| packets.see(piece));
            assert_eq!((packets.names, packets.bytes, packets.rest), (9, 3 * 22, 0), "{size}");
        }
    }

    /// Answers each request of an SFTP client; a folder has no end.
    async fn endless(mut stream: tokio::io::DuplexStream) -> io::Result<()> {
        let string = |text: &[u8]| [&(text.len() as u32).to_be_bytes()[..], text].concat();
        loop {
            let length = stream.read_u32().await?;
            let mut request = vec![0; length as usize];
            stream.read_exact(&mut request).await?;
            let id = request.get(1..5).unwrap_or_default().to_vec();
            let answer = match request[0] {
                1 => packet(2, &3_u32.to_be_bytes()),
                11 => packet(102, &[id, string(b"handle")].concat()),
                _ => {
                    let one = [string(b"name"), string(b""), 0_u32.to_be_bytes().to_vec()].concat();
                    packet(NAME, &[id, 1_u32.to_be_bytes().to_vec(), one].concat())
                }
            };
            stream.write_all(&answer).await?;
        }
    }

    #[tokio::test]
    async fn a_folder_without_an_end_ends() {
        let (near, far) = tokio::io::duplex(1 << 16);
        let server = tokio::spawn(endless(far));
        let too_many = TooMany::default();
        let stream = Listed { most_names: 1000, ..Listed::new(near, too_many.clone()) };
        let session = russh_sftp::client::SftpSession::new(stream).await.unwrap();
        assert_eq!(too_many.text(), None);
        assert!(session.read_dir("/").await.is_err());
        assert!(too_many.text().unwrap().starts_with("the machine lists more than "));
        server.abort();
    }
}
