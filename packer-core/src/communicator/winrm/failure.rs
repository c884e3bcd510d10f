//! Why a request to a WinRM server did not do what it was to do.

use std::fmt;

use super::super::waiting::Cause;
use crate::error::{Error, Fault, Unreachable};

/// The server's own number for an operation that took longer than it may take: ask again.
const TIMED_OUT: u32 = 0x8033_8029;

/// What went wrong, and in what words.
#[derive(Debug)]
pub(super) struct Failure {
    pub(super) class: Class,
    /// Whether the server has certainly not seen the request.
    pub(super) is_unsent: bool,
    text: String,
    /// Why a machine cannot be entered, where that is known better than from the class.
    why: Option<Unreachable>,
}

/// What kind of failure it is: what follows from it differs.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Class {
    /// Nothing listens there.
    Refused,
    /// The way to the server is broken, or it says nothing.
    Network,
    /// The connection was not secured, as a rule for the certificate's sake.
    Tls,
    /// The login was refused.
    Login,
    /// What answers is no WinRM server, or fails before it looks at the request.
    Http,
    /// The server understood the request and says no, with its number for why.
    Says(u32),
    /// No other try can help.
    Never,
}

impl Failure {
    pub(super) fn new(class: Class, text: impl Into<String>) -> Self {
        Self { class, is_unsent: false, text: text.into(), why: None }
    }

    pub(super) fn network(text: impl Into<String>) -> Self {
        Self::new(Class::Network, text)
    }

    /// Says more exactly why a machine cannot be entered.
    pub(super) fn because(self, why: Unreachable) -> Self {
        Self { why: Some(why), ..self }
    }

    /// What it says of a machine that is waited for.
    pub(super) fn cause(&self) -> Cause {
        let of_class = match self.class {
            Class::Refused => Unreachable::Refused,
            Class::Network => Unreachable::Closed,
            Class::Tls => Unreachable::HostKey,
            Class::Login => Unreachable::LoginRefused,
            Class::Http => Unreachable::OtherProtocol,
            Class::Says(_) | Class::Never => Unreachable::Other,
        };
        Cause::new(self.why.unwrap_or(of_class), self.text.clone())
    }

    /// Says where it happened.
    pub(super) fn at(self, host: &str, port: u16) -> Self {
        Self { text: format!("{host}:{port}: {}", self.text), ..self }
    }

    /// The server has not seen the request.
    pub(super) fn unsent(self) -> Self {
        Self { is_unsent: true, ..self }
    }

    /// Whether the server only says that nothing has happened yet.
    pub(super) fn is_patience(&self) -> bool {
        self.class == Class::Says(TIMED_OUT)
    }

    /// Whether the connection is gone, and with it all knowledge of what runs in the machine.
    pub(super) fn is_loss(&self) -> bool {
        matches!(self.class, Class::Refused | Class::Network | Class::Tls)
    }

    pub(super) fn into_error(self) -> Error {
        let fault = match self.class {
            Class::Refused | Class::Network | Class::Http => Fault::Network,
            Class::Tls | Class::Login | Class::Never => Fault::User,
            Class::Says(_) => Fault::Guest,
        };
        Error::new(fault, self.text)
    }
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.text)
    }
}
