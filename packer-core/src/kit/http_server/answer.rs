//! Answers: their heads, and bodies that come from memory or piece by piece from a file.

use std::fs::File;
use std::io::{Read, Seek, SeekFrom};
use std::pin::Pin;
use std::task::{Context as Task, Poll};
use std::time::{Duration, SystemTime};

use bytes::Bytes;
use hyper::body::{Body, Frame, SizeHint};
use hyper::header::{CONTENT_LENGTH, CONTENT_TYPE, DATE, HeaderValue, LOCATION};
use hyper::{Response, StatusCode};
use tokio::sync::mpsc;

/// How much of a file is in memory at a time, for each of two pieces.
const PIECE: u64 = 1 << 20;

/// How long a client may take for a piece before it is given up.
const PATIENCE: Duration = Duration::from_secs(300);

/// The body of an answer.
pub(super) enum Content {
    Memory(Option<Bytes>),
    /// What is left of a file, and who reads it.
    File {
        left: u64,
        pieces: mpsc::Receiver<std::io::Result<Bytes>>,
    },
}

impl Content {
    pub(super) fn empty() -> Self {
        Self::Memory(None)
    }

    /// So many bytes of a file from a place on. They are read off the async threads, one piece ahead of the client.
    pub(super) fn file(file: File, from: u64, length: u64) -> Self {
        let (sender, pieces) = mpsc::channel(1);
        tokio::spawn(read(file, from, length, sender));
        Self::File { left: length, pieces }
    }
}

async fn read(file: File, from: u64, length: u64, sender: mpsc::Sender<std::io::Result<Bytes>>) {
    let (mut file, mut at, mut left) = (file, from, length);
    while left > 0 {
        let work = tokio::task::spawn_blocking(move || {
            let mut piece = Vec::with_capacity(left.min(PIECE) as usize);
            let read = file
                .seek(SeekFrom::Start(at))
                .and_then(|_| (&file).take(left.min(PIECE)).read_to_end(&mut piece));
            (file, read.map(|_| Bytes::from(piece)))
        });
        let Ok((back, piece)) = work.await else { return };
        file = back;
        let piece = match piece {
            // It is shorter now than it was: the client sees that the answer breaks off.
            Ok(piece) if piece.is_empty() => Err(std::io::ErrorKind::UnexpectedEof.into()),
            other => other,
        };
        let failed = piece.is_err();
        let read = piece.as_ref().map_or(0, |piece| piece.len() as u64);
        let taken = tokio::time::timeout(PATIENCE, sender.send(piece)).await;
        if failed || !matches!(taken, Ok(Ok(()))) {
            return;
        }
        (at, left) = (at + read, left - read);
    }
}

impl Body for Content {
    type Data = Bytes;
    type Error = std::io::Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        task: &mut Task<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, std::io::Error>>> {
        match &mut *self {
            Self::Memory(bytes) => Poll::Ready(bytes.take().map(|bytes| Ok(Frame::data(bytes)))),
            Self::File { left: 0, .. } => Poll::Ready(None),
            Self::File { left, pieces } => pieces.poll_recv(task).map(|piece| match piece {
                Some(Ok(bytes)) => {
                    *left = left.saturating_sub(bytes.len() as u64);
                    Some(Ok(Frame::data(bytes)))
                }
                Some(Err(e)) => Some(Err(e)),
                None => Some(Err(std::io::ErrorKind::UnexpectedEof.into())),
            }),
        }
    }

    fn is_end_stream(&self) -> bool {
        matches!(self, Self::Memory(None) | Self::File { left: 0, .. })
    }

    fn size_hint(&self) -> SizeHint {
        SizeHint::with_exact(match self {
            Self::Memory(bytes) => bytes.as_ref().map_or(0, |bytes| bytes.len() as u64),
            Self::File { left, .. } => *left,
        })
    }
}

pub(super) type Answer = Response<Content>;

/// An answer of a type from memory.
pub(super) fn of_bytes(status: StatusCode, kind: &'static str, bytes: Bytes) -> Answer {
    let length = bytes.len() as u64;
    let mut answer = Response::new(Content::Memory(Some(bytes).filter(|bytes| !bytes.is_empty())));
    *answer.status_mut() = status;
    answer.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static(kind));
    answer.headers_mut().insert(CONTENT_LENGTH, HeaderValue::from(length));
    dated(answer)
}

/// A plain text about what went wrong.
pub(super) fn wrong(status: StatusCode, text: &str) -> Answer {
    let mut answer = of_bytes(status, "text/plain; charset=utf-8", Bytes::from(format!("{text}\n")));
    answer.headers_mut().insert("x-content-type-options", HeaderValue::from_static("nosniff"));
    answer
}

/// Another path, relative to the one that was asked for.
pub(super) fn elsewhere(path: &str, query: Option<&str>) -> Answer {
    let place = query.map_or_else(|| path.to_owned(), |query| format!("{path}?{query}"));
    let Ok(place) = HeaderValue::try_from(place) else {
        return wrong(StatusCode::NOT_FOUND, "404 page not found");
    };
    let mut answer = Response::new(Content::empty());
    *answer.status_mut() = StatusCode::MOVED_PERMANENTLY;
    answer.headers_mut().insert(LOCATION, place);
    answer.headers_mut().insert(CONTENT_LENGTH, HeaderValue::from(0));
    dated(answer)
}

/// With the time of day.
pub(super) fn dated(mut answer: Answer) -> Answer {
    if let Ok(now) = HeaderValue::try_from(httpdate::fmt_http_date(SystemTime::now())) {
        answer.headers_mut().insert(DATE, now);
    }
    answer
}
