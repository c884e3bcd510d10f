//! Why a machine cannot be entered, as data.

use std::fmt;
use std::io;

use serde::{Deserialize, Serialize};

use super::{Error, Fault};

/// Why a machine cannot be entered: what a host program decides by, or shows in words of its own.
///
/// The error of a wait that ended without a connection carries it, and so does its [`ErrorInfo`](super::ErrorInfo) in
/// events and reports. `Display` is a few words, [`advice`](Self::advice) says what to do.
///
/// ```
/// use packer_core::communicator::Unreachable;
/// use packer_core::{Error, Fault};
///
/// # fn connect() -> Result<(), Error> {
/// #     Err(Error::unreachable(Unreachable::Refused, "Timeout waiting for SSH.").context("builder"))
/// # }
/// // What connecting to a machine ends with where nothing listens on its port.
/// let error: Error = connect().unwrap_err();
/// match error.why_unreachable() {
///     Some(Unreachable::LoginRefused | Unreachable::HostKey) => panic!("not worth another try"),
///     Some(why) => println!("the machine is not up: {why}. {}", why.advice()),
///     None => println!("something else: {error}"),
/// }
/// assert_eq!(error.fault(), Fault::Network);
/// ```
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
#[non_exhaustive]
pub enum Unreachable {
    /// The machine says that nothing listens on the port.
    Refused,
    /// No way leads to the machine.
    NoRoute,
    /// The name of the host has no address.
    UnknownHost,
    /// Nobody answers, or somebody accepts the connection and says nothing.
    Silent,
    /// The connection was accepted, and closed before it could be used.
    Closed,
    /// What answers is no SSH (or WinRM) server.
    OtherProtocol,
    /// The machine shows another key or certificate than it should.
    HostKey,
    /// Both sides know no algorithm that the other one takes.
    NoCommonAlgorithm,
    /// The login was refused: a wrong user, key or password.
    LoginRefused,
    /// The server takes no further attempt for now (`MaxAuthTries`, `MaxStartups`, penalties).
    TooManyAttempts,
    /// Another reason; also what this version does not know, since a later one wrote it.
    #[serde(other)]
    Other,
}

impl Unreachable {
    /// What a person can do about it, as a sentence without its full stop. Empty where nothing general can be said.
    pub fn advice(self) -> &'static str {
        match self {
            Self::Refused => {
                "Check that the machine starts the server, that it listens on this port, and that no firewall rejects it"
            }
            Self::NoRoute => {
                "Check the address, and that networks and firewalls let this computer (or the bastion) reach it"
            }
            Self::UnknownHost => "Check how the name of the host is written, and the name server",
            Self::Silent => {
                "The machine may need longer to start than the timeout allows, or a firewall drops what is sent to it"
            }
            Self::Closed => {
                "Either what forwards the port finds no machine behind it yet, or the server's log says why it hung up"
            }
            Self::OtherProtocol => "Something else answers on this port: check host and port",
            Self::HostKey => {
                "Make sure that this is the machine and nobody stands between, then correct the key or certificate that is \
                 expected"
            }
            Self::NoCommonAlgorithm => {
                "Allow a newer algorithm in the machine, or name one of its own in ssh_ciphers or \
                 ssh_key_exchange_algorithms"
            }
            Self::LoginRefused => "Check the user name, and that the password or key is the right one",
            Self::TooManyAttempts => {
                "Offer fewer keys (an SSH agent's are tried one after the other), or allow more in the machine's \
                 sshd_config (MaxAuthTries, MaxStartups); a penalty ends by itself"
            }
            Self::Other => "",
        }
    }

    /// Whose fault it looks like.
    pub fn fault(self) -> Fault {
        match self {
            Self::HostKey | Self::NoCommonAlgorithm | Self::LoginRefused => Fault::User,
            Self::TooManyAttempts => Fault::Quota,
            _ => Fault::Network,
        }
    }

    /// Why a connection could not be made, from the operating system's error.
    #[cfg_attr(not(any(feature = "ssh", feature = "winrm")), expect(dead_code, reason = "nothing connects"))]
    pub(crate) fn of(error: &io::Error) -> Self {
        match error.kind() {
            io::ErrorKind::ConnectionRefused => Self::Refused,
            io::ErrorKind::HostUnreachable
            | io::ErrorKind::NetworkUnreachable
            | io::ErrorKind::NetworkDown
            | io::ErrorKind::AddrNotAvailable
            | io::ErrorKind::PermissionDenied => Self::NoRoute,
            io::ErrorKind::TimedOut => Self::Silent,
            io::ErrorKind::ConnectionReset
            | io::ErrorKind::ConnectionAborted
            | io::ErrorKind::BrokenPipe
            | io::ErrorKind::UnexpectedEof => Self::Closed,
            _ => Self::Other,
        }
    }
}

/// A few words.
impl fmt::Display for Unreachable {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Refused => "nothing listens on the port",
            Self::NoRoute => "no way leads to the machine",
            Self::UnknownHost => "the host is not known",
            Self::Silent => "the machine does not answer",
            Self::Closed => "the connection is closed at once",
            Self::OtherProtocol => "what answers is another server",
            Self::HostKey => "the machine's key is not the expected one",
            Self::NoCommonAlgorithm => "there is no common algorithm",
            Self::LoginRefused => "the login is refused",
            Self::TooManyAttempts => "the server takes no further attempts",
            Self::Other => "the machine cannot be entered",
        })
    }
}

impl Error {
    /// A machine that cannot be entered; fault, and whether another try is worth it, follow from `why`.
    pub fn unreachable(why: Unreachable, message: impl Into<String>) -> Self {
        let fault = why.fault();
        let mut error = Self::new(fault, message);
        error.0.unreachable = Some(why);
        if fault == Fault::User { error } else { error.retryable() }
    }

    /// Why a machine could not be entered, where that is what this error or one that caused it says.
    pub fn why_unreachable(&self) -> Option<Unreachable> {
        let of_causes = || self.causes().find_map(|cause| cause.downcast_ref::<Self>()?.0.unreachable);
        self.0.unreachable.or_else(of_causes)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::error::ErrorInfo;
    use crate::secrets::Secrets;

    #[test]
    fn it_stays_when_texts_are_scrubbed_and_written_down() {
        let secrets = Secrets::new();
        secrets.add("s3cret");
        let inner = Error::unreachable(Unreachable::Silent, "s3cret.example says nothing");
        let error = Error::provider("no machine").with_source(inner).scrubbed(&secrets);
        assert_eq!(error.why_unreachable(), Some(Unreachable::Silent));
        let json = serde_json::to_value(&error).unwrap();
        assert_eq!(json["unreachable"], "silent");
        let info: ErrorInfo = serde_json::from_value(json).unwrap();
        assert_eq!(info.unreachable, Some(Unreachable::Silent));
        let later = serde_json::json!({"message": "", "fault": "network", "unreachable": "asleep"});
        let info: ErrorInfo = serde_json::from_value(later).unwrap();
        assert_eq!(info.unreachable, Some(Unreachable::Other));
        let plain = serde_json::to_value(Error::user("x")).unwrap();
        assert!(plain.get("unreachable").is_none());
    }

    #[test]
    fn a_wrong_login_is_the_users_fault_and_a_silent_machine_is_worth_another_try() {
        let login = Error::unreachable(Unreachable::LoginRefused, "");
        assert_eq!((login.fault(), login.is_retryable()), (Fault::User, false));
        let busy = Error::unreachable(Unreachable::TooManyAttempts, "");
        assert_eq!((busy.fault(), busy.is_retryable()), (Fault::Quota, true));
        let silent = Error::unreachable(Unreachable::Silent, "");
        assert_eq!((silent.fault(), silent.is_retryable()), (Fault::Network, true));
    }
}
