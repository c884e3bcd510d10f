//! Ports of this computer, reserved for programs that are about to be started.

use std::fs::File;
use std::io;
use std::net::{Ipv4Addr, TcpListener};
use std::ops::RangeInclusive;

use crate::context::Context;
use crate::error::{Error, Fault, Result};
use crate::kit::lock_file::{Locked, try_lock};

/// How often the system is asked for a port that no other build of the run has.
const TRIES: usize = 100;

/// A number that no other build of the run takes, and of a range no other process that asks the same way: Packer does.
#[derive(Debug)]
pub(crate) struct Claim {
    cx: Context,
    number: u16,
    /// The lock that processes share, for as long as it is open.
    processes: Option<File>,
}

impl Drop for Claim {
    fn drop(&mut self) {
        // For the builds of this run it is free when it is so for other processes.
        self.processes = None;
        self.cx.ports().remove(&self.number);
    }
}

/// A port of this computer (`127.0.0.1`) that nobody else gets while this value lives.
///
/// Until it is [handed over](Self::hand_over) it is held open, so that no program takes it. After that no other build of the
/// run gets it, nor one of another process that asks for a port of a range (Packer's processes among them, where they have
/// the same cache); but another program may be faster than the one that was started: where that says that the port is in
/// use, start over with another. Keep the value for as long as the program runs.
#[derive(Debug)]
pub struct ReservedPort {
    held: Option<TcpListener>,
    claim: Claim,
}

impl ReservedPort {
    /// Its number.
    pub fn number(&self) -> u16 {
        self.claim.number
    }

    /// Closes it for the program that is started now; gives its number.
    pub fn hand_over(&mut self) -> u16 {
        self.held = None;
        self.claim.number
    }
}

impl Context {
    /// Reserves a free port of this computer: any, or one of a range, which is tried from a random place on.
    ///
    /// ```
    /// # #[cfg(feature = "testing")] {
    /// # let bench = packer_core::testing::Bench::new();
    /// # let cx = bench.context();
    /// let mut vnc = cx.reserve_port(5900..=5999)?;
    /// let mut ssh = cx.reserve_port(None)?;
    /// // … everything else that takes time …
    /// let forward = format!("hostfwd=tcp:127.0.0.1:{}-:22", ssh.hand_over());
    /// # }
    /// # Ok::<(), packer_core::Error>(())
    /// ```
    ///
    /// # Errors
    /// Where none is free.
    pub fn reserve_port(&self, range: impl Into<Option<RangeInclusive<u16>>>) -> Result<ReservedPort> {
        let open = |number| TcpListener::bind((Ipv4Addr::LOCALHOST, number));
        let (claim, held) = self.claim_port(range.into(), open).map_err(|why| {
            let error = Error::new(Fault::Quota, "no port of this computer is free that was asked for");
            match why {
                Some(why) => error.with_source(why).retryable(),
                None => error.retryable(),
            }
        })?;
        Ok(ReservedPort { held: Some(held), claim })
    }

    /// Opens a port that nobody else has claimed: any, or one of a range, which is tried from a random place on. The error is
    /// the last of the system's, `None` where all were claimed.
    pub(crate) fn claim_port(
        &self,
        range: Option<RangeInclusive<u16>>,
        open: impl Fn(u16) -> io::Result<TcpListener>,
    ) -> Result<(Claim, TcpListener), Option<io::Error>> {
        // What the system hands out by itself it hands out once.
        let shared = range.is_some();
        let mut candidates: Box<dyn Iterator<Item = u16>> = match range {
            None => Box::new(std::iter::repeat_n(0, TRIES)),
            Some(range) => {
                let (first, last) = (u32::from(*range.start()), u32::from(*range.end()));
                let count = (last + 1).saturating_sub(first);
                let offset = uuid::Uuid::new_v4().as_fields().0.checked_rem(count).unwrap_or(0);
                let port = move |i: u32| u16::try_from(first + (offset + i) % count).ok();
                Box::new((0..count).filter_map(port).filter(|port| *port != 0))
            }
        };
        let mut why = None;
        let found = candidates.find_map(|number| {
            let tried = if shared { self.try_shared(number, &open) } else { self.try_any(&open) };
            tried.map_err(|e| why = Some(e)).ok()?
        });
        found.ok_or(why)
    }

    /// A port that the system chooses; `None` where another build has it.
    fn try_any(
        &self,
        open: impl Fn(u16) -> io::Result<TcpListener>,
    ) -> io::Result<Option<(Claim, TcpListener)>> {
        let held = open(0)?;
        let number = held.local_addr()?.port();
        Ok(self.claimed(number).map(|claim| (claim, held)))
    }

    /// This port; `None` where another build or process has it.
    fn try_shared(
        &self,
        number: u16,
        open: impl Fn(u16) -> io::Result<TcpListener>,
    ) -> io::Result<Option<(Claim, TcpListener)>> {
        let Some(mut claim) = self.claimed(number) else { return Ok(None) };
        let folder = self.cache_dir().join("port");
        let locked =
            std::fs::create_dir_all(&folder).and_then(|()| try_lock(&folder.join(number.to_string())));
        match locked {
            Ok(Locked::Theirs) => return Ok(None),
            Ok(Locked::Ours(file)) => claim.processes = Some(file),
            // Where there can be no locks, a port is taken by whoever opens it.
            Ok(Locked::Unknown) | Err(_) => {}
        }
        let held = open(number)?;
        Ok(Some((claim, held)))
    }

    fn claimed(&self, number: u16) -> Option<Claim> {
        let is_new = self.ports().insert(number);
        is_new.then(|| Claim { cx: self.clone(), number, processes: None })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::Bench;

    #[test]
    fn a_port_is_held_until_it_is_handed_over_and_claimed_until_it_is_dropped() {
        let bench = Bench::new();
        let mut port = bench.context().reserve_port(None).unwrap();
        let number = port.number();
        let open = || TcpListener::bind((Ipv4Addr::LOCALHOST, number));
        assert_eq!(open().unwrap_err().kind(), io::ErrorKind::AddrInUse);
        assert_eq!(port.hand_over(), number);
        drop(open().unwrap());
        // It is free, but another build of the run does not get it.
        let error = bench.context().reserve_port(number..=number).unwrap_err();
        assert_eq!((error.fault(), error.is_retryable()), (Fault::Quota, true));
        drop(port);
        assert_eq!(bench.context().reserve_port(number..=number).unwrap().number(), number);
    }

    #[test]
    fn a_range_is_used_to_its_last_port() {
        let bench = Bench::new();
        let free = bench.context().reserve_port(None).unwrap().number();
        let range = free..=free.saturating_add(20);
        let held: Vec<_> = std::iter::from_fn(|| bench.context().reserve_port(range.clone()).ok()).collect();
        let mut numbers: Vec<u16> = held.iter().map(ReservedPort::number).collect();
        numbers.sort_unstable();
        numbers.dedup();
        assert_eq!(numbers.len(), held.len());
        assert!(numbers.contains(&free) && numbers.iter().all(|n| range.contains(n)), "{numbers:?}");
        #[allow(clippy::reversed_empty_ranges, reason = "what a user may write")]
        let nothing = 9..=3;
        assert!(bench.context().reserve_port(nothing).is_err());
        assert!(bench.context().reserve_port(0..=0).is_err());
    }

    #[test]
    fn processes_do_not_collide() {
        let folder = crate::testing::TempFolder::new();
        let host = || {
            let mut host = crate::Host::new();
            host.cache_dir = folder.path().join("cache");
            host
        };
        // Two runs know no more of each other than two processes do.
        let (one, other) = (Bench::with_host(host()), Bench::with_host(host()));
        let free = one.context().reserve_port(None).unwrap().number();
        let mut port = one.context().reserve_port(free..=free).unwrap();
        port.hand_over();
        assert!(other.context().reserve_port(free..=free).is_err());
        drop(port);
        assert_eq!(other.context().reserve_port(free..=free).unwrap().number(), free);
        assert!(folder.path().join(format!("cache/port/{free}")).exists());
    }
}
