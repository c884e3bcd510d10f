//! A call that AWS refused, or that did not arrive: what is said of it, whose fault it is, and whether it helps to ask again.

use std::fmt;

use aws_sdk_ec2::error::{ProvideErrorMetadata, SdkError};
use aws_sdk_ec2::operation::RequestId;
use aws_smithy_runtime_api::client::orchestrator::HttpResponse;

use crate::error::{Error, Fault};

/// A call that failed.
#[derive(Debug, Clone)]
#[non_exhaustive]
pub struct Refused {
    /// The call: `RunInstances`.
    pub operation: &'static str,
    /// What AWS calls the failure: `InvalidAMIID.NotFound`. Empty where there is no answer.
    pub code: String,
    /// What it says about it; without an answer, what went wrong on the way.
    pub message: String,
    /// By what AWS's support finds the call; empty where there is no answer.
    pub request_id: String,
    /// The HTTP status of the answer.
    pub status: Option<u16>,
    tries: u32,
    /// Whether an earlier try had no answer, so that nobody knows what became of it.
    lost: bool,
}

/// What AWS calls a call too many.
const THROTTLED: [&str; 10] = [
    "EC2ThrottledException",
    "LimitExceededException",
    "PriorRequestNotComplete",
    "ProvisionedThroughputExceededException",
    "RequestLimitExceeded",
    "RequestThrottled",
    "RequestThrottledException",
    "SlowDown",
    "Throttling",
    "ThrottlingException",
];

/// What it says when credentials are not good any more. A request that "has expired" is one signed with a clock that is wrong,
/// or with credentials that ended meanwhile.
const EXPIRED: [&str; 4] =
    ["ExpiredToken", "ExpiredTokenException", "RequestExpired", "TokenRefreshRequired"];

/// What it says when it has no machine to give.
const NO_CAPACITY: [&str; 6] = [
    "InsufficientCapacity",
    "InsufficientFreeAddressesInSubnet",
    "InsufficientHostCapacity",
    "InsufficientInstanceCapacity",
    "InsufficientReservedInstanceCapacity",
    "UnfulfillableCapacity",
];

impl Refused {
    pub(super) fn new<E>(operation: &'static str, error: &SdkError<E, HttpResponse>) -> Self
    where
        E: ProvideErrorMetadata + std::error::Error + 'static,
    {
        let status = error.raw_response().map(|response| response.status().as_u16());
        let text = |text: Option<&str>| text.unwrap_or_default().to_owned();
        let known = Self {
            operation,
            code: text(error.code()),
            message: text(error.message()),
            request_id: text(error.meta().request_id()),
            status,
            tries: 1,
            lost: false,
        };
        match error {
            SdkError::ServiceError(_) if !known.code.is_empty() => known,
            // What is inside says more than what is around it.
            other => {
                let mut reason: &dyn std::error::Error = other;
                while let Some(cause) = reason.source() {
                    reason = cause;
                }
                Self { message: reason.to_string(), ..known }
            }
        }
    }

    /// An answer of AWS's that says of a part of what was asked that it failed.
    pub fn answered(operation: &'static str, code: &str, message: &str) -> Self {
        Self {
            operation,
            code: code.to_owned(),
            message: message.to_owned(),
            request_id: String::new(),
            status: Some(200),
            tries: 1,
            lost: false,
        }
    }

    pub(super) fn after(mut self, tries: u32) -> Self {
        self.tries = tries;
        self
    }

    pub(super) fn with_lost(mut self, lost: bool) -> Self {
        self.lost = lost;
        self
    }

    /// Whether it is certain that the call has made nothing: AWS said no, and no try before it was lost.
    pub fn made_nothing(&self) -> bool {
        !self.lost && self.status.is_some_and(|status| (400..500).contains(&status))
    }

    /// Whether nobody knows what the call did.
    pub(super) fn is_lost(&self) -> bool {
        self.status.is_none_or(|status| status >= 500) && !self.is_throttled()
    }

    /// Whether the account's rate of calls was too high.
    pub fn is_throttled(&self) -> bool {
        THROTTLED.contains(&self.code.as_str()) || self.status == Some(429)
    }

    /// Whether the credentials are not good any more.
    pub fn is_expired(&self) -> bool {
        EXPIRED.contains(&self.code.as_str())
    }

    /// Whether AWS has no such machine left there.
    pub fn is_no_capacity(&self) -> bool {
        NO_CAPACITY.contains(&self.code.as_str())
            || self.code == "Unsupported" && self.message.contains("Zone")
    }

    /// Whether AWS does not know what the call is about: it is gone, or has just been made and is not known everywhere.
    pub fn is_not_found(&self) -> bool {
        let code = self.code.as_str();
        code.ends_with(".NotFound") || code.ends_with("NotFoundException") || code == "NoSuchEntity"
    }

    /// Whether the same call may go well a little later.
    pub fn may_pass(&self) -> bool {
        // What nobody has built (501) is not there a little later.
        let broken = self.status.is_none_or(|status| status >= 500 && status != 501);
        broken || self.is_throttled() || self.code == "RequestExpired"
    }

    fn fault(&self) -> Fault {
        match (self.code.as_str(), self.status) {
            ("", None) => Fault::Network,
            (code, _) if code.contains("LimitExceeded") && !self.is_throttled() => Fault::Quota,
            (code, _) if code.contains("Quota") => Fault::Quota,
            _ if self.is_no_capacity() || self.may_pass() => Fault::Provider,
            (_, Some(400..=499)) => Fault::User,
            _ => Fault::Provider,
        }
    }

    /// What the user can do about it.
    fn advice(&self) -> Option<String> {
        let code = self.code.as_str();
        Some(match code {
            "UnauthorizedOperation" | "AccessDenied" | "AccessDeniedException" => {
                format!("the credentials need a policy that allows ec2:{}", self.operation)
            }
            "AuthFailure" | "InvalidClientTokenId" | "SignatureDoesNotMatch" => {
                "AWS does not know these credentials: see which the chain finds (`aws sts get-caller-identity`)".to_owned()
            }
            "OptInRequired" => "the account has to subscribe to it, or to turn the region on".to_owned(),
            "VPCIdNotSpecified" | "DefaultVpcDoesNotExist" | "MissingInput" => {
                "the region has no default VPC: set subnet_id or subnet_filter".to_owned()
            }
            _ if self.is_expired() => "the credentials have expired: log in anew".to_owned(),
            _ if self.is_throttled() => {
                "the account makes more calls than it may: fewer builds at once, or a longer aws_polling".to_owned()
            }
            _ if self.is_no_capacity() => {
                "another instance_type, availability_zone or subnet, or spot_instance_types, may have room".to_owned()
            }
            _ if self.fault() == Fault::Quota => {
                "a quota of the account is used up: end what is not needed, or ask AWS for more".to_owned()
            }
            _ => return None,
        })
    }
}

/// What is not there needs no deletion.
///
/// # Errors
/// Every other refusal.
pub fn not_there(refused: Refused) -> crate::error::Result<()> {
    let is_gone = refused.is_not_found() || refused.code == "InvalidAMIID.Unavailable";
    if is_gone { Ok(()) } else { Err(refused.into()) }
}

impl fmt::Display for Refused {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "operation error EC2: {}, ", self.operation)?;
        if self.tries > 1 {
            write!(f, "exceeded maximum number of attempts, {}, ", self.tries)?;
        }
        match self.status {
            None => write!(f, "request send failed, {}", self.message),
            Some(200) => write!(f, "api error {}: {}", self.code, self.message),
            Some(status) => {
                if self.code == "RequestExpired" {
                    f.write_str("Probable clock skew error: ")?;
                }
                let id = &self.request_id;
                write!(
                    f,
                    "https response error StatusCode: {status}, RequestID: {id}, api error {}: ",
                    self.code
                )?;
                f.write_str(&self.message)
            }
        }
    }
}

impl std::error::Error for Refused {}

impl From<Refused> for Error {
    fn from(refused: Refused) -> Self {
        let mut error = Self::new(refused.fault(), refused.to_string());
        if refused.may_pass() || refused.is_no_capacity() {
            error = error.retryable();
        }
        match refused.advice() {
            Some(advice) => error.with_source(advice),
            None => error,
        }
    }
}
