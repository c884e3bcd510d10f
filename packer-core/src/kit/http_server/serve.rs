//! The server itself: connections, how many and how long, and what is told of them.

use std::convert::Infallible;
use std::net::{SocketAddr, TcpListener};
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use hyper::body::{Body, Incoming};
use hyper::header::{CONTENT_LENGTH, HeaderMap};
use hyper::service::service_fn;
use hyper::{Method, Request, StatusCode};
use hyper_util::rt::{TokioIo, TokioTimer};
use percent_encoding::percent_decode_str;
use tokio::sync::Semaphore;
use tokio::task::JoinSet;

use super::answer::{Answer, Content, wrong};
use super::folder::{self, Asked};
use super::texts::Texts;
use crate::context::Context;
use crate::error::{Error, Result};
use crate::event::EventKind;
use crate::kit::port::Claim;

/// How many connections are open at once; others wait.
const CONNECTIONS: usize = 128;

/// How long a client may take to ask, or to ask again.
const PATIENCE: Duration = Duration::from_secs(60);

/// The longest head of a request.
const LONGEST_HEAD: usize = 64 << 10;

/// What is served.
#[derive(Debug)]
pub(super) enum Site {
    Folder(PathBuf),
    Texts(Texts),
}

/// A server that a machine fetches its files from while it is built. Dropping it ends it, with the connections that are open,
/// and frees the port.
#[derive(Debug)]
pub struct HttpServer {
    address: SocketAddr,
    _connections: JoinSet<()>,
}

impl HttpServer {
    /// The port that it listens on.
    pub fn port(&self) -> u16 {
        self.address.port()
    }

    /// The address that it listens on.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    pub(super) fn start(cx: &Context, site: Site, claim: Claim, listener: TcpListener) -> Result<Self> {
        let fail = |e| Error::provider(format!("Error finding port: {e}")).with_source(e);
        listener.set_nonblocking(true).map_err(fail)?;
        let address = listener.local_addr().map_err(fail)?;
        let listener = tokio::net::TcpListener::from_std(listener).map_err(fail)?;
        let mut connections = JoinSet::new();
        connections.spawn(accept(cx.clone(), Arc::new(site), claim, listener));
        Ok(Self { address, _connections: connections })
    }
}

/// Takes connections for ever. They end with this future, and the number of the port is others' when it is closed.
async fn accept(cx: Context, site: Arc<Site>, _claim: Claim, listener: tokio::net::TcpListener) {
    let room = Arc::new(Semaphore::new(CONNECTIONS));
    let mut open = JoinSet::new();
    loop {
        let Ok(place) = room.clone().acquire_owned().await else { return };
        while open.try_join_next().is_some() {}
        let Ok((stream, peer)) = listener.accept().await else {
            // This process has too many open files, say: that may pass.
            tokio::time::sleep(Duration::from_millis(100)).await;
            continue;
        };
        // Where that cannot be, answers come a little later.
        let _ = stream.set_nodelay(true);
        let (cx, site) = (cx.clone(), site.clone());
        open.spawn(async move {
            let service = service_fn(move |request| {
                let (cx, site) = (cx.clone(), site.clone());
                async move { Ok::<_, Infallible>(answer(&cx, &site, peer, request).await) }
            });
            let mut http = hyper::server::conn::http1::Builder::new();
            http.timer(TokioTimer::new())
                .header_read_timeout(PATIENCE)
                .max_buf_size(LONGEST_HEAD)
                .auto_date_header(false)
                .title_case_headers(true);
            // How a connection ends is the client's business.
            let _ = http.serve_connection(TokioIo::new(stream), service).await;
            drop(place);
        });
    }
}

async fn answer(cx: &Context, site: &Arc<Site>, peer: SocketAddr, request: Request<Incoming>) -> Answer {
    let (head, _) = request.into_parts();
    let (path, query) = (head.uri.path().to_owned(), head.uri.query().map(str::to_owned));
    let mut answer = match percent_decode_str(&path).decode_utf8() {
        Err(_) => wrong(StatusCode::NOT_FOUND, "404 page not found"),
        Ok(decoded) => {
            let asked = cleaned(&decoded);
            let slash = decoded.ends_with('/') || decoded.is_empty();
            of_site(site, asked, slash, query, head.headers).await
        }
    };
    let told = |name| answer.headers().get(name).and_then(|length| length.to_str().ok()?.parse().ok());
    let bytes = if head.method == Method::HEAD {
        *answer.body_mut() = Content::empty();
        0
    } else {
        told(CONTENT_LENGTH).unwrap_or_else(|| answer.body().size_hint().exact().unwrap_or(0))
    };
    let (method, status) = (head.method.to_string(), answer.status().as_u16());
    cx.emit(EventKind::Served { method, path, status, bytes, peer: peer.to_string() });
    answer
}

async fn of_site(
    site: &Arc<Site>,
    path: String,
    slash: bool,
    query: Option<String>,
    headers: HeaderMap,
) -> Answer {
    if let Site::Texts(texts) = &**site {
        return texts.answer(&path);
    }
    let site = site.clone();
    let work = tokio::task::spawn_blocking(move || match &*site {
        Site::Folder(folder) => {
            let asked = Asked { path: &path, slash, query: query.as_deref(), headers: &headers };
            folder::answer(folder, &asked)
        }
        Site::Texts(texts) => texts.answer(&path),
    });
    work.await.unwrap_or_else(|_| wrong(StatusCode::INTERNAL_SERVER_ERROR, "500 Internal Server Error"))
}

/// An absolute path without `.`, `..` and empty parts.
fn cleaned(path: &str) -> String {
    let mut parts: Vec<&str> = Vec::new();
    for part in path.split('/') {
        match part {
            "" | "." => {}
            ".." => drop(parts.pop()),
            part => parts.push(part),
        }
    }
    format!("/{}", parts.join("/"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_path_leads_out() {
        for (path, clean) in [
            ("/a/b", "/a/b"),
            ("/a//./b/", "/a/b"),
            ("/../../etc/passwd", "/etc/passwd"),
            ("/a/../../b", "/b"),
            ("", "/"),
            ("/", "/"),
            ("/..", "/"),
        ] {
            assert_eq!(cleaned(path), clean);
        }
    }
}
