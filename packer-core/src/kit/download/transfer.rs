//! A file over HTTP: asked for its length, continued where it broke off, given up where nothing comes any more.

use std::fs::File;
use std::io::{Seek, SeekFrom, Write};
use std::path::{Path, PathBuf};
use std::time::Duration;

use bytes::Bytes;
use reqwest::header::{
    ACCEPT_ENCODING, ACCEPT_RANGES, CONTENT_LENGTH, CONTENT_RANGE, ETAG, HeaderMap, HeaderName, IF_RANGE,
    RANGE,
};
use reqwest::{Client, Response, StatusCode, Url};
use tokio::sync::mpsc;

use super::checksum::{Hasher, Kind};
use crate::context::{Context, Progress};
use crate::duration::GoDuration;
use crate::error::{Error, Result};
use crate::kit::http;

/// How often a download that gets nowhere is tried.
const TRIES: u32 = 4;

/// What counts as getting somewhere: then the tries begin anew.
const SOMEWHERE: u64 = 1 << 20;

/// The wait before another try; doubled each time.
const PAUSE: Duration = Duration::from_millis(500);

/// How many pieces wait for the disk at most.
const WAITING: usize = 16;

/// A server that has the file.
pub(super) struct Source<'a> {
    pub(super) cx: &'a Context,
    client: Client,
    url: Url,
    limits: Limits,
}

/// How long a server may say nothing.
struct Limits {
    /// Before its answer.
    answer: Duration,
    /// Within it.
    piece: Duration,
}

/// What a server says of the file before it is fetched.
#[derive(Debug, Default, Clone)]
pub(super) struct Known {
    /// Its length, where the server gives parts of it too.
    pub(super) length: Option<u64>,
    /// What tells this content from another.
    tag: Option<String>,
}

/// The beginning of a file on the disk, and its checksum so far.
pub(super) struct Part {
    path: PathBuf,
    file: File,
    pub(super) hasher: Option<Hasher>,
    pub(super) length: u64,
    kind: Option<Kind>,
    /// What the server calls the content that this is the beginning of.
    tag: Option<String>,
}

/// Why an answer is none; whether another try may help.
struct Failure {
    why: String,
    again: bool,
}

impl Part {
    /// An empty one.
    pub(super) fn create(path: &Path, kind: Option<Kind>) -> Result<Self> {
        let file = File::create(path).map_err(|e| Error::io("open", path, e))?;
        Ok(Self { path: path.to_owned(), file, hasher: kind.map(Hasher::new), length: 0, kind, tag: None })
    }

    /// What an earlier download left, hashed already.
    pub(super) fn open(path: &Path, kind: Kind, hasher: Hasher, length: u64) -> Result<Self> {
        let fail = |e| Error::io("open", path, e);
        let mut file = File::options().write(true).open(path).map_err(fail)?;
        file.seek(SeekFrom::Start(length)).map_err(fail)?;
        Ok(Self { path: path.to_owned(), file, hasher: Some(hasher), length, kind: Some(kind), tag: None })
    }

    fn restart(&mut self) -> Result<()> {
        let restarted = self.file.set_len(0).and_then(|()| self.file.rewind());
        restarted.map_err(|e| Error::io("truncate", &self.path, e))?;
        (self.hasher, self.length, self.tag) = (self.kind.map(Hasher::new), 0, None);
        Ok(())
    }

    fn write(&mut self, bytes: &[u8]) -> Result<()> {
        self.file.write_all(bytes).map_err(|e| Error::io("write", &self.path, e))?;
        if let Some(hasher) = &mut self.hasher {
            hasher.update(bytes);
        }
        self.length += bytes.len() as u64;
        Ok(())
    }

    /// Closes the file. Without a checksum nobody would find out later that a part of it never reached the disk.
    pub(super) fn finish(self) -> Result<Option<Hasher>> {
        if self.hasher.is_none() {
            self.file.sync_all().map_err(|e| Error::io("sync", &self.path, e))?;
        }
        Ok(self.hasher)
    }
}

impl<'a> Source<'a> {
    pub(super) fn new(cx: &'a Context, url: &Url) -> Result<Self> {
        let client = http::client_for_files(cx.envs()).map_err(Error::user)?;
        let own = cx.env("PACKER_GETTER_READ_TIMEOUT").and_then(|text| text.parse::<GoDuration>().ok());
        let limits = match own.map(GoDuration::to_std).filter(|limit| !limit.is_zero()) {
            Some(limit) => Limits { answer: limit, piece: limit },
            None => Limits { answer: Duration::from_secs(60), piece: Duration::from_secs(30) },
        };
        Ok(Self { cx, client, url: url.clone(), limits })
    }

    /// Whether the server has the file and gives parts of it. The request is made once: a server may refuse it.
    pub(super) async fn head(&self) -> Result<Known> {
        let request = self.client.head(self.url.clone()).header(ACCEPT_ENCODING, "identity").send();
        let answer =
            self.cx.until_cancelled(async { Ok(tokio::time::timeout(self.limits.answer, request).await) });
        match answer.await? {
            // What is wrong is found again by the request for the file itself.
            Ok(Err(_)) => Ok(Known::default()),
            Ok(Ok(answer)) => Ok(known(&answer)),
            Err(_) => Err(Error::network(self.silent(self.limits.answer))),
        }
    }

    /// Whether the server gives parts of the file.
    pub(super) async fn serves_bytes(&self) -> Result<bool> {
        let request = self.client.head(self.url.clone()).send();
        let answer =
            self.cx.until_cancelled(async { Ok(tokio::time::timeout(self.limits.answer, request).await) });
        let Ok(Ok(answer)) = answer.await? else { return Ok(false) };
        Ok(answer.status().is_success() && gives_parts(answer.headers()))
    }

    /// Fetches what is missing.
    pub(super) async fn fetch(&self, mut part: Part, known: &Known, title: &str) -> Result<Part> {
        let (mut tries, mut pause) = (0, PAUSE);
        loop {
            let before = part.length;
            let (back, result) = self.attempt(part, known, title).await?;
            part = back;
            let failure = match result {
                Ok(()) => return Ok(part),
                Err(failure) => failure,
            };
            if part.length >= before.saturating_add(SOMEWHERE) {
                (tries, pause) = (0, PAUSE);
            }
            tries += 1;
            if !failure.again || tries >= TRIES {
                return Err(match failure.again {
                    true => Error::network(failure.why),
                    false => Error::new(crate::Fault::Network, failure.why),
                });
            }
            self.cx.sleep(pause).await?;
            pause *= 2;
        }
    }

    /// One request. The error is one of this computer's.
    async fn attempt(
        &self,
        mut part: Part,
        known: &Known,
        title: &str,
    ) -> Result<(Part, Result<(), Failure>)> {
        // Without a checksum only what certainly is of the same content is continued.
        let tag = part.tag.clone();
        let continued = part.length > 0 && (part.hasher.is_some() || tag.is_some());
        if part.length > 0 && !continued {
            part.restart()?;
        }
        let mut request = self.client.get(self.url.clone()).header(ACCEPT_ENCODING, "identity");
        if continued {
            request = request.header(RANGE, format!("bytes={}-", part.length));
            if let Some(tag) = tag {
                request = request.header(IF_RANGE, tag);
            }
        }
        let answer = async { Ok(tokio::time::timeout(self.limits.answer, request.send()).await) };
        let mut answer = match self.cx.until_cancelled(answer).await? {
            Ok(Ok(answer)) => answer,
            Ok(Err(e)) => {
                let again = !e.is_builder() && !e.is_redirect();
                return Ok((part, Err(Failure { why: why(&e), again })));
            }
            Err(_) => return Ok((part, Err(Failure { why: self.silent(self.limits.answer), again: false }))),
        };
        match answer.status() {
            StatusCode::PARTIAL_CONTENT if continued && begins_at(answer.headers(), part.length) => {}
            StatusCode::OK if !continued => {}
            // The server takes no notice of the range, or has another content now.
            StatusCode::OK => part.restart()?,
            StatusCode::PARTIAL_CONTENT | StatusCode::RANGE_NOT_SATISFIABLE if continued => {
                part.restart()?;
                let why = "the server does not continue where the download broke off".to_owned();
                return Ok((part, Err(Failure { why, again: true })));
            }
            status => {
                let again = status.is_server_error() && status != StatusCode::NOT_IMPLEMENTED
                    || matches!(status, StatusCode::TOO_MANY_REQUESTS | StatusCode::REQUEST_TIMEOUT);
                return Ok((
                    part,
                    Err(Failure { why: format!("bad response code: {}", status.as_u16()), again }),
                ));
            }
        }
        part.tag = known.tag.clone().filter(|_| known.tag == strong_tag(answer.headers()));
        let total = answer.content_length().map(|rest| part.length + rest);
        let mut progress = self.cx.progress(title, total);
        progress.set(part.length);
        self.receive(&mut answer, part, progress).await
    }

    /// Passes the pieces of an answer to a thread that writes and counts them.
    async fn receive(
        &self,
        answer: &mut Response,
        mut part: Part,
        mut progress: Progress,
    ) -> Result<(Part, Result<(), Failure>)> {
        let (sender, mut receiver) = mpsc::channel::<Bytes>(WAITING);
        let path = part.path.clone();
        let writing = self.cx.blocking(move |stop| {
            while let Some(piece) = receiver.blocking_recv() {
                stop.check()?;
                part.write(&piece)?;
                progress.advance(piece.len() as u64);
            }
            Ok(part)
        });
        // The thread ends when the sender is gone: with this future.
        let feeding = async move {
            loop {
                match tokio::time::timeout(self.limits.piece, answer.chunk()).await {
                    Err(_) => break Err(Failure { why: self.silent(self.limits.piece), again: false }),
                    Ok(Err(e)) => break Err(Failure { why: why(&e), again: true }),
                    Ok(Ok(None)) => break Ok(()),
                    // Where nobody takes it, the thread says why.
                    Ok(Ok(Some(piece))) => {
                        if sender.send(piece).await.is_err() {
                            break Ok(());
                        }
                    }
                }
            }
        };
        let feeding = self.cx.until_cancelled(async { Ok(feeding.await) });
        let (written, fed) = tokio::join!(writing, feeding);
        if let Err(e) = &written
            && !e.is_cancelled()
        {
            // A disk that is full has room again.
            let _ = std::fs::remove_file(path);
        }
        Ok((written?, fed?))
    }

    fn silent(&self, limit: Duration) -> String {
        let host = self.url.host_str().unwrap_or_default();
        format!("{host} has sent nothing for {} s", limit.as_secs_f64())
    }
}

/// The reason in words; that an answer is too short in Packer's.
fn why(error: &reqwest::Error) -> String {
    let first: &dyn std::error::Error = error;
    let mut causes = std::iter::successors(Some(first), |cause| cause.source());
    let short = |cause: &hyper::Error| cause.is_incomplete_message();
    if causes.any(|cause| cause.downcast_ref().is_some_and(short)) {
        return "unexpected EOF".to_owned();
    }
    http::failure(error)
}

fn text(headers: &HeaderMap, name: HeaderName) -> Option<&str> {
    headers.get(name)?.to_str().ok().map(str::trim)
}

fn gives_parts(headers: &HeaderMap) -> bool {
    text(headers, ACCEPT_RANGES).is_some_and(|units| units.eq_ignore_ascii_case("bytes"))
}

fn known(answer: &Response) -> Known {
    let headers = answer.headers();
    if answer.status() != StatusCode::OK || !gives_parts(headers) {
        return Known::default();
    }
    // The answer has no body: its length is what the header says. Some servers say 0 for that.
    let length =
        text(headers, CONTENT_LENGTH).and_then(|length| length.parse().ok()).filter(|length| *length > 0);
    Known { length, tag: strong_tag(headers) }
}

/// A tag of which the server says that it stands for each byte.
fn strong_tag(headers: &HeaderMap) -> Option<String> {
    text(headers, ETAG).filter(|tag| tag.starts_with('"')).map(str::to_owned)
}

fn begins_at(headers: &HeaderMap, at: u64) -> bool {
    let range = text(headers, CONTENT_RANGE).and_then(|range| range.strip_prefix("bytes "));
    range.and_then(|range| range.split('-').next()).and_then(|start| start.trim().parse().ok()) == Some(at)
}
