//! Plain connections: a host's name looked up, its addresses dialled.

use std::collections::HashMap;
use std::future::pending;
use std::io;
use std::net::{IpAddr, SocketAddr};
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use futures_util::future::select_all;
use tokio::net::TcpStream;
use tokio::time::{Instant, timeout};

use super::super::waiting::Cause;
use super::dial::Failure;
use super::stage::Stage;
use crate::error::{Unreachable, os_text};

pub(super) const DIAL_LIMIT: Duration = Duration::from_secs(15);
/// How long one address of a host may leave us without an answer before the next one is dialled beside it.
const NEXT_ADDRESS: Duration = Duration::from_millis(250);
/// How long the addresses of a name are remembered: tries follow each other fast, and name servers are others' machines.
const REMEMBERED: Duration = Duration::from_secs(2);

/// Connects to a port of a host, which is a name or an address; one of IPv6 may stand in brackets.
pub(super) async fn tcp(host: &str, port: u16, stage: &Stage) -> Result<TcpStream, Failure> {
    let bare = bare(host);
    let dialled = async {
        let addresses = match bare.parse::<IpAddr>() {
            Ok(address) => vec![SocketAddr::new(address, port)],
            Err(_) => {
                stage.looks_up(host, port);
                look_up(bare, port, stage).await.map_err(|e| {
                    let peer = stage.peer();
                    let text = format!("dial {peer}: the name cannot be looked up: {}", os_text(&e));
                    Failure::Because(Cause::new(Unreachable::UnknownHost, text))
                })?
            }
        };
        stage.dials(host, port);
        let stream = first_of(&addresses).await.map_err(|e| {
            let text = format!("dial {}: {}", stage.peer(), os_text(&e));
            Failure::Because(Cause::new(Unreachable::of(&e), text))
        })?;
        stage.accepted();
        Ok(stream)
    };
    let stream = match timeout(DIAL_LIMIT, dialled).await {
        Ok(stream) => stream?,
        Err(_) => return Err(Failure::Because(stage.describe())),
    };
    // A failure costs speed alone.
    let _ = stream.set_nodelay(true);
    Ok(stream)
}

/// An address without the brackets that one of IPv6 may stand in.
pub(super) fn bare(host: &str) -> &str {
    host.strip_prefix('[').and_then(|host| host.strip_suffix(']')).unwrap_or(host)
}

async fn look_up(name: &str, port: u16, stage: &Stage) -> io::Result<Vec<SocketAddr>> {
    if let Some(known) = stage.names.get(name, port) {
        return Ok(known);
    }
    let found: Vec<_> = tokio::net::lookup_host((name, port)).await?.collect();
    stage.names.set(name, &found);
    Ok(found)
}

/// The first of these addresses that connects. One that is not answered does not keep the next one waiting for long.
async fn first_of(addresses: &[SocketAddr]) -> io::Result<TcpStream> {
    let mut left = addresses.iter();
    let mut open = Vec::new();
    let mut failed = None;
    loop {
        if let Some(address) = left.next() {
            open.push(Box::pin(TcpStream::connect(*address)));
        }
        if open.is_empty() {
            return Err(failed.unwrap_or_else(|| io::Error::other("the name has no address")));
        }
        let next = async {
            match left.len() {
                0 => pending().await,
                _ => tokio::time::sleep(NEXT_ADDRESS).await,
            }
        };
        tokio::select! {
            (done, at, _) = select_all(open.iter_mut()) => {
                drop(open.swap_remove(at));
                match done {
                    Ok(stream) => return Ok(stream),
                    Err(error) => failed = failed.or(Some(error)),
                }
            }
            () = next => {}
        }
    }
}

/// The addresses of names that were looked up a moment ago.
#[derive(Default)]
pub(super) struct Names(Mutex<HashMap<String, (Instant, Vec<IpAddr>)>>);

impl Names {
    fn get(&self, name: &str, port: u16) -> Option<Vec<SocketAddr>> {
        let names = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let (since, addresses) = names.get(name)?;
        let fresh = since.elapsed() < REMEMBERED && !addresses.is_empty();
        fresh.then(|| addresses.iter().map(|address| SocketAddr::new(*address, port)).collect())
    }

    fn set(&self, name: &str, found: &[SocketAddr]) {
        let addresses = found.iter().map(SocketAddr::ip).collect();
        let mut names = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        names.insert(name.to_owned(), (Instant::now(), addresses));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn an_address_that_refuses_is_followed_by_the_next_at_once_and_a_silent_one_after_a_moment() {
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let good = listener.local_addr().unwrap();
        let free = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap().local_addr().unwrap();
        assert_eq!(first_of(&[free, good]).await.unwrap().peer_addr().unwrap(), good);
        let error = first_of(&[free, free]).await.unwrap_err();
        assert_eq!(Unreachable::of(&error), Unreachable::Refused);
        // A queue that is full swallows what comes.
        let full = tokio::net::TcpSocket::new_v4().unwrap();
        full.bind("127.0.0.1:0".parse().unwrap()).unwrap();
        let full = full.listen(0).unwrap();
        let silent = full.local_addr().unwrap();
        let mut queue = Vec::new();
        while let Ok(stream) = timeout(Duration::from_millis(200), TcpStream::connect(silent)).await {
            queue.push(stream);
        }
        let reached = timeout(Duration::from_secs(10), first_of(&[silent, good])).await;
        assert_eq!(reached.unwrap().unwrap().peer_addr().unwrap(), good);
    }

    #[tokio::test(start_paused = true)]
    async fn names_are_remembered_for_a_moment() {
        let names = Names::default();
        names.set("host", &["192.0.2.1:22".parse().unwrap()]);
        assert_eq!(names.get("host", 80), Some(vec!["192.0.2.1:80".parse().unwrap()]));
        tokio::time::advance(REMEMBERED).await;
        assert_eq!(names.get("host", 80), None);
    }
}
