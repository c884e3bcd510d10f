//! A writer that compresses blocks of its input on all processors and writes the results in order.

use std::collections::VecDeque;
use std::io::{self, Write};
use std::mem;
use std::sync::mpsc::{self, Receiver, SyncSender};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::{self, JoinHandle};

/// Compresses one block into bytes that stand by themselves. Made anew for each thread.
pub(super) trait BlockEncoder: Send + 'static {
    fn encode(&mut self, block: &[u8]) -> io::Result<Vec<u8>>;
}

/// How many threads work at once.
pub(super) fn cores() -> usize {
    thread::available_parallelism().map_or(1, usize::from)
}

/// A block on its way, and where its result goes.
type Job = (Vec<u8>, SyncSender<io::Result<Vec<u8>>>);

/// Compresses what is written to it, block by block. In memory are at most three blocks for each thread.
#[derive(Debug)]
pub(super) struct Parallel<W> {
    inner: W,
    block_size: usize,
    block: Vec<u8>,
    /// `None` when all is written: the threads end.
    jobs: Option<SyncSender<Job>>,
    /// Results in the order of their blocks.
    results: VecDeque<Receiver<io::Result<Vec<u8>>>>,
    threads: Vec<JoinHandle<()>>,
    started: bool,
}

impl<W: Write> Parallel<W> {
    pub(super) fn new<E: BlockEncoder>(
        inner: W,
        block_size: usize,
        encoder: impl Fn() -> E,
    ) -> io::Result<Self> {
        let (jobs, queue) = mpsc::sync_channel::<Job>(cores());
        let queue = Arc::new(Mutex::new(queue));
        let mut threads = Vec::new();
        for _ in 0..cores() {
            let (queue, mut encoder) = (queue.clone(), encoder());
            threads.push(thread::Builder::new().name("compress".into()).spawn(move || {
                loop {
                    let job = queue.lock().unwrap_or_else(PoisonError::into_inner).recv();
                    let Ok((block, result)) = job else { return };
                    // Whoever wanted the result may have gone.
                    let _ = result.send(encoder.encode(&block));
                }
            })?);
        }
        let block = Vec::with_capacity(block_size);
        let (jobs, results) = (Some(jobs), VecDeque::new());
        Ok(Self { inner, block_size, block, jobs, results, threads, started: false })
    }

    /// Compresses the rest, writes everything and behind it `end`, and ends the threads.
    pub(super) fn finish(mut self, end: &[u8]) -> io::Result<()> {
        // No input at all makes one empty block: nothing would be no valid file.
        if !self.block.is_empty() || !self.started {
            self.start_block()?;
        }
        self.jobs = None;
        while !self.results.is_empty() {
            self.write_result()?;
        }
        self.inner.write_all(end)?;
        self.inner.flush()
    }

    fn start_block(&mut self) -> io::Result<()> {
        self.started = true;
        while self.results.len() > 2 * self.threads.len() {
            self.write_result()?;
        }
        let block = mem::replace(&mut self.block, Vec::with_capacity(self.block_size));
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

impl<W: Write> Write for Parallel<W> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let taken = bytes.len().min(self.block_size - self.block.len());
        self.block.extend_from_slice(&bytes[..taken]);
        if self.block.len() == self.block_size {
            self.start_block()?;
        }
        Ok(taken)
    }

    /// Does nothing: a block ends where it is full.
    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

impl<W> Drop for Parallel<W> {
    fn drop(&mut self) {
        self.jobs = None;
        for thread in self.threads.drain(..) {
            let _ = thread.join();
        }
    }
}

fn threads_ended() -> io::Error {
    io::Error::other("a compressing thread ended")
}

#[cfg(test)]
mod tests {
    use super::*;

    struct Mark;

    impl BlockEncoder for Mark {
        fn encode(&mut self, block: &[u8]) -> io::Result<Vec<u8>> {
            match block {
                b"bad!" => Err(io::Error::other("bad block")),
                _ => Ok([b"[", block, b"]"].concat()),
            }
        }
    }

    #[test]
    fn blocks_come_out_in_order() {
        for (input, expected) in [("", "[]"), ("abcd", "[abcd]"), ("abcdefghij", "[abcd][efgh][ij]")] {
            let mut out = Vec::new();
            let mut writer = Parallel::new(&mut out, 4, || Mark).unwrap();
            writer.write_all(input.as_bytes()).unwrap();
            writer.finish(b"").unwrap();
            assert_eq!(String::from_utf8(out).unwrap(), expected);
        }
        let mut out = Vec::new();
        let mut writer = Parallel::new(&mut out, 4, || Mark).unwrap();
        let input: Vec<u8> = (0..10_000u32).flat_map(u32::to_be_bytes).collect();
        writer.write_all(&input).unwrap();
        writer.finish(b"").unwrap();
        let blocks: Vec<u8> = out.chunks(6).flat_map(|block| block[1..5].to_vec()).collect();
        assert_eq!(blocks, input);
    }

    #[test]
    fn a_failing_block_is_an_error() {
        let mut writer = Parallel::new(io::sink(), 4, || Mark).unwrap();
        writer.write_all(b"goodbad!good").unwrap();
        assert_eq!(writer.finish(b"").unwrap_err().to_string(), "bad block");
    }
}
