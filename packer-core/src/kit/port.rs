//! Ports of this computer, reserved for programs that are about to be started.

use std::io;
use std::net::{Ipv4Addr, TcpListener};
use std::ops::RangeInclusive;

use crate::context::Context;
use crate::error::{Error, Fault, Result};

/// How often the system is asked for a port that no other build of the run has.
const TRIES: usize = 100;

/// A port of this computer (`127.0.0.1`) that nobody else gets while this value lives.
///
/// Until it is [handed over](Self::hand_over) it is held open, so that no program takes it. After that no other build of the
/// run gets it, but another program may be faster than the one that was started: where that says that the port is in use,
/// start over with another. Keep the value for as long as the program runs.
#[derive(Debug)]
pub struct ReservedPort {
    cx: Context,
    number: u16,
    held: Option<TcpListener>,
}

impl ReservedPort {
    /// Its number.
    pub fn number(&self) -> u16 {
        self.number
    }

    /// Closes it for the program that is started now; gives its number.
    pub fn hand_over(&mut self) -> u16 {
        self.held = None;
        self.number
    }
}

impl Drop for ReservedPort {
    fn drop(&mut self) {
        self.held = None;
        self.cx.ports().remove(&self.number);
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
        let mut candidates: Box<dyn Iterator<Item = u16>> = match range.into() {
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
        let found = candidates.find_map(|number| self.try_port(number).map_err(|e| why = Some(e)).ok()?);
        found.ok_or_else(|| {
            let error = Error::new(Fault::Quota, "no port of this computer is free that was asked for");
            match why {
                Some(why) => error.with_source(why).retryable(),
                None => error.retryable(),
            }
        })
    }

    /// Opens a port, 0 for any; `None` where another build has it.
    fn try_port(&self, number: u16) -> io::Result<Option<ReservedPort>> {
        let held = TcpListener::bind((Ipv4Addr::LOCALHOST, number))?;
        let number = held.local_addr()?.port();
        let is_new = self.ports().insert(number);
        Ok(is_new.then(|| ReservedPort { cx: self.clone(), number, held: Some(held) }))
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
}
