//! Packing on all processors: blocks stand by themselves, so that the same input gives the same bytes wherever it is
//! packed.

use std::collections::VecDeque;
use std::fs::File;
use std::io::{self, BufReader, Read, Write};
use std::mem;
use std::path::PathBuf;
use std::sync::mpsc::{self, Receiver, SyncSender};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::{self, JoinHandle};

use packer_core::{Error, Result};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::{Hashing, Layer, digest_text};

/// How layers are packed.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
#[non_exhaustive]
pub enum Compression {
    /// gzip: what everything reads.
    #[default]
    Gzip,
    /// Zstandard: smaller and faster; needs Docker 23, containerd 1.5 or Podman 3.
    Zstd,
    /// Not at all.
    None,
}

const BLOCK: usize = 1024 * 1024;

/// Writes a layer: `fill` writes the tar, which is hashed, packed, hashed again and written to a new file.
pub(crate) fn pack(
    file: PathBuf,
    compression: Compression,
    fill: impl FnOnce(&mut dyn Write) -> Result<()>,
) -> Result<Layer> {
    let failed = |e| Error::io("write", &file, e);
    let mut packed = Hashing::new(File::create_new(&file).map_err(failed)?);
    let diff_id = {
        let mut tar = Hashing::new(Packer::new(&mut packed, compression).map_err(failed)?);
        fill(&mut tar)?;
        let Hashing { inner, hash, .. } = tar;
        inner.finish().map_err(failed)?;
        digest_text(hash)
    };
    let (digest, size) = (packed.digest(), packed.count);
    Ok(Layer { digest, size, diff_id, compression, file })
}

/// A reader of what is packed, whichever way: its first bytes say so.
pub(crate) fn decompressed<'a>(packed: impl Read + Send + 'a) -> io::Result<Box<dyn Read + Send + 'a>> {
    let mut packed = BufReader::with_capacity(128 * 1024, packed);
    let start = io::BufRead::fill_buf(&mut packed)?;
    Ok(if start.starts_with(&[0x1f, 0x8b]) {
        Box::new(flate2::bufread::MultiGzDecoder::new(packed))
    } else if start.starts_with(&[0x28, 0xb5, 0x2f, 0xfd]) {
        Box::new(zstd::stream::read::Decoder::with_buffer(packed)?)
    } else {
        Box::new(packed)
    })
}

/// A block on its way, and where its result goes.
type Job = (Vec<u8>, SyncSender<io::Result<Vec<u8>>>);

/// Packs what is written to it, block by block; in memory are at most three blocks for each thread.
struct Packer<'a, W> {
    inner: &'a mut W,
    plain: bool,
    block: Vec<u8>,
    /// `None` when all is written: the threads end.
    jobs: Option<SyncSender<Job>>,
    /// Results in the order of their blocks.
    results: VecDeque<Receiver<io::Result<Vec<u8>>>>,
    threads: Vec<JoinHandle<()>>,
    started: bool,
}

impl<'a, W: Write> Packer<'a, W> {
    fn new(inner: &'a mut W, compression: Compression) -> io::Result<Self> {
        let plain = compression == Compression::None;
        let cores = thread::available_parallelism().map_or(1, usize::from);
        let (jobs, queue) = mpsc::sync_channel::<Job>(cores);
        let queue = Arc::new(Mutex::new(queue));
        let mut threads = Vec::new();
        for _ in 0..if plain { 0 } else { cores } {
            let queue = queue.clone();
            threads.push(thread::Builder::new().name("pack".into()).spawn(move || {
                loop {
                    let job = queue.lock().unwrap_or_else(PoisonError::into_inner).recv();
                    let Ok((block, result)) = job else { return };
                    // Whoever wanted the result may have gone.
                    let _ = result.send(packed(compression, &block));
                }
            })?);
        }
        let block = Vec::with_capacity(BLOCK);
        let (jobs, results) = (Some(jobs), VecDeque::new());
        Ok(Self { inner, plain, block, jobs, results, threads, started: false })
    }

    /// Packs the rest and writes everything.
    fn finish(mut self) -> io::Result<()> {
        // Nothing at all would be no packed file.
        if !self.plain && (!self.block.is_empty() || !self.started) {
            self.start_block()?;
        }
        self.jobs = None;
        while !self.results.is_empty() {
            self.write_result()?;
        }
        self.inner.flush()
    }

    fn start_block(&mut self) -> io::Result<()> {
        self.started = true;
        while self.results.len() > 2 * self.threads.len() {
            self.write_result()?;
        }
        let block = mem::replace(&mut self.block, Vec::with_capacity(BLOCK));
        let (sender, result) = mpsc::sync_channel(1);
        self.results.push_back(result);
        let sent = self.jobs.as_ref().is_some_and(|jobs| jobs.send((block, sender)).is_ok());
        if sent { Ok(()) } else { Err(threads_ended()) }
    }

    fn write_result(&mut self) -> io::Result<()> {
        let Some(result) = self.results.pop_front() else { return Ok(()) };
        let block = result.recv().map_err(|_| threads_ended())??;
        self.inner.write_all(&block)
    }
}

fn packed(compression: Compression, block: &[u8]) -> io::Result<Vec<u8>> {
    match compression {
        // Each block is a member of its own; any gzip reads them as one file.
        Compression::Gzip => {
            let mut gzip = libdeflater::Compressor::new(libdeflater::CompressionLvl::default());
            let mut out = vec![0; gzip.gzip_compress_bound(block.len())];
            let length = gzip.gzip_compress(block, &mut out).map_err(io::Error::other)?;
            out.truncate(length);
            Ok(out)
        }
        Compression::Zstd => zstd::bulk::compress(block, zstd::DEFAULT_COMPRESSION_LEVEL),
        Compression::None => Ok(block.to_vec()),
    }
}

impl<W: Write> Write for Packer<'_, W> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        if self.plain {
            return self.inner.write(bytes);
        }
        let taken = bytes.len().min(BLOCK - self.block.len());
        self.block.extend_from_slice(&bytes[..taken]);
        if self.block.len() == BLOCK {
            self.start_block()?;
        }
        Ok(taken)
    }

    /// Does nothing: a block ends where it is full.
    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

impl<W> Drop for Packer<'_, W> {
    fn drop(&mut self) {
        self.jobs = None;
        for thread in self.threads.drain(..) {
            let _ = thread.join();
        }
    }
}

fn threads_ended() -> io::Error {
    io::Error::other("a packing thread ended")
}
