//! The codecs behind one interface: bytes go in, `finish` ends the file.

use std::io::{self, Write};

use libdeflater::{CompressionLvl, Compressor, Crc};
use packer_core::{Error, Result};

use super::format::Codec;
use super::parallel::{BlockEncoder, Parallel};

/// How much a thread compresses at once.
const BLOCK: usize = 1 << 20;

/// How much one block of a bgzf file holds: also stored without compression, it is shorter than 64 KiB.
const BGZF_BLOCK: usize = 0xff00;

/// The block without content that ends a bgzf file.
const BGZF_END: [u8; 28] = *b"\x1f\x8b\x08\x04\0\0\0\0\0\xff\x06\0BC\x02\0\x1b\0\x03\0\0\0\0\0\0\0\0\0";

/// A writer with an end.
pub(crate) trait Encoder: Write {
    /// Writes what is still to be written. Without it the file is not whole.
    fn finish(self: Box<Self>) -> io::Result<()>;
}

/// Starts a compressed file.
pub(crate) fn encoder<'a>(
    codec: Codec,
    level: i32,
    writer: &'a mut (dyn Write + Send),
) -> Result<Box<dyn Encoder + 'a>> {
    let start = |e: io::Error| Error::provider(e.to_string());
    Ok(match codec {
        Codec::Gzip => {
            // Packer's -2, "only the quick half of the method", is about speed: so is 1.
            let level = deflate_level(if level == -2 { 1 } else { level })?;
            let gzip = move || Gzip(Compressor::new(level));
            Box::new(Parallel::new(writer, BLOCK, gzip).map_err(start)?)
        }
        Codec::Bgzf => {
            let level = deflate_level(level)?;
            let bgzf = move || Bgzf(Compressor::new(level));
            let blocks = BLOCK / BGZF_BLOCK * BGZF_BLOCK;
            Box::new(BgzfFile(Parallel::new(writer, blocks, bgzf).map_err(start)?))
        }
        #[cfg(feature = "compress-lz4")]
        Codec::Lz4 => {
            use lz4_flex::frame::{BlockMode, BlockSize, FrameEncoder, FrameInfo};
            let info = FrameInfo::new()
                .block_size(BlockSize::Max4MB)
                .block_mode(BlockMode::Independent)
                .content_checksum(true);
            Box::new(FrameEncoder::with_frame_info(info, writer))
        }
        #[cfg(feature = "compress-bzip2")]
        Codec::Bzip2 => {
            let level = if level < 1 { 9 } else { level.unsigned_abs() };
            Box::new(bzip2::write::BzEncoder::new(writer, bzip2::Compression::new(level)))
        }
        #[cfg(feature = "compress-xz")]
        Codec::Xz => Box::new(liblzma::write::XzEncoder::new(writer, 6)),
        #[cfg(not(feature = "compress-lz4"))]
        Codec::Lz4 => return Err(not_built("compress-lz4")),
        #[cfg(not(feature = "compress-bzip2"))]
        Codec::Bzip2 => return Err(not_built("compress-bzip2")),
        #[cfg(not(feature = "compress-xz"))]
        Codec::Xz => return Err(not_built("compress-xz")),
    })
}

/// What `prepare` says where a codec is missing, for whoever runs without it.
#[allow(dead_code, reason = "used only where a feature is off")]
pub(super) fn not_built(feature: &str) -> Error {
    Error::user(format!("this build of the library has no cargo feature \"{feature}\""))
}

fn deflate_level(level: i32) -> Result<CompressionLvl> {
    let level = if matches!(level, -1 | 0) { 6 } else { level };
    let wrong = || Error::user("Invalid compression level. Expected an integer from -1 to 9.");
    (1..=9).contains(&level).then(|| CompressionLvl::new(level).ok()).flatten().ok_or_else(wrong)
}

/// Each block is a gzip member of its own; any gzip reads them as one file.
struct Gzip(Compressor);

impl BlockEncoder for Gzip {
    fn encode(&mut self, block: &[u8]) -> io::Result<Vec<u8>> {
        let mut out = vec![0; self.0.gzip_compress_bound(block.len())];
        let length = self.0.gzip_compress(block, &mut out).map_err(io::Error::other)?;
        out.truncate(length);
        Ok(out)
    }
}

impl<W: Write> Encoder for Parallel<W> {
    fn finish(self: Box<Self>) -> io::Result<()> {
        (*self).finish(b"")
    }
}

/// Several gzip members of less than 64 KiB each, every one with its length in the header: a reader can jump.
struct Bgzf(Compressor);

impl BlockEncoder for Bgzf {
    fn encode(&mut self, blocks: &[u8]) -> io::Result<Vec<u8>> {
        let mut out = Vec::with_capacity(blocks.len() / 2);
        for block in blocks.chunks(BGZF_BLOCK) {
            let mut body = vec![0; self.0.deflate_compress_bound(block.len())];
            let length = self.0.deflate_compress(block, &mut body).map_err(io::Error::other)?;
            // Header and trailer are 26 bytes; the field holds the whole length less one.
            let size = u16::try_from(length + 25).map_err(io::Error::other)?;
            let mut crc = Crc::new();
            crc.update(block);
            out.extend_from_slice(&BGZF_END[..16]);
            out.extend_from_slice(&size.to_le_bytes());
            out.extend_from_slice(&body[..length]);
            out.extend_from_slice(&crc.sum().to_le_bytes());
            out.extend_from_slice(&u32::try_from(block.len()).map_err(io::Error::other)?.to_le_bytes());
        }
        Ok(out)
    }
}

/// A bgzf file: blocks, then the empty one.
struct BgzfFile<'a>(Parallel<&'a mut (dyn Write + Send)>);

impl Write for BgzfFile<'_> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.0.write(bytes)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.0.flush()
    }
}

impl Encoder for BgzfFile<'_> {
    fn finish(self: Box<Self>) -> io::Result<()> {
        self.0.finish(&BGZF_END)
    }
}

#[cfg(feature = "compress-bzip2")]
impl<W: Write> Encoder for bzip2::write::BzEncoder<W> {
    fn finish(self: Box<Self>) -> io::Result<()> {
        (*self).finish().map(drop)
    }
}

#[cfg(feature = "compress-xz")]
impl<W: Write> Encoder for liblzma::write::XzEncoder<W> {
    fn finish(self: Box<Self>) -> io::Result<()> {
        (*self).finish().map(drop)
    }
}

#[cfg(feature = "compress-lz4")]
impl<W: Write> Encoder for lz4_flex::frame::FrameEncoder<W> {
    fn finish(self: Box<Self>) -> io::Result<()> {
        (*self).finish().map(drop).map_err(io::Error::other)
    }
}
