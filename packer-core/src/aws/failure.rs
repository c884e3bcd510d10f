//! What went wrong with a call: what AWS says, or why nobody could be asked.

use std::fmt;

use crate::error::{Error, Fault};

/// A call that failed. Its text is the one that AWS's own library for Go prints, which scripts know.
///
/// ```
/// # use packer_core::aws::ServiceError;
/// # use packer_core::{Error, Fault};
/// let mut error = ServiceError::new("SSM", "GetParameter");
/// error.status = Some(400);
/// error.request_id = "r".into();
/// error.code = "ParameterNotFound".into();
/// error.message = "no such parameter".into();
/// assert_eq!(
///     error.to_string(),
///     "operation error SSM: GetParameter, https response error StatusCode: 400, RequestID: r, \
///      ParameterNotFound: no such parameter"
/// );
/// assert_eq!(Error::from(error).fault(), Fault::User);
/// ```
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct ServiceError {
    /// The service, as AWS names it in messages.
    pub service: &'static str,
    /// The operation.
    pub action: &'static str,
    /// The status of the answer; `None` where there was none.
    pub status: Option<u16>,
    /// AWS's name for what is wrong; empty where there was no answer, or none that could be read.
    pub code: String,
    /// What AWS says, or why there was no answer.
    pub message: String,
    /// The number of the request, which Amazon's support asks for.
    pub request_id: String,
    /// How often it was tried, where it was tried as often as it may be.
    pub attempts: Option<u32>,
    /// Whether another try may succeed without a change.
    pub retryable: bool,
    /// Whose fault it is, where there were no credentials to make the call with.
    pub(super) cause: Option<Fault>,
}

impl ServiceError {
    /// A failed call, of which nothing more is known.
    pub fn new(service: &'static str, action: &'static str) -> Self {
        Self {
            service,
            action,
            status: None,
            code: String::new(),
            message: String::new(),
            request_id: String::new(),
            attempts: None,
            retryable: false,
            cause: None,
        }
    }

    /// Whether the credentials are over: other ones may do.
    pub fn is_expired(&self) -> bool {
        matches!(self.code.as_str(), "ExpiredToken" | "ExpiredTokenException" | "RequestExpired")
    }

    /// Whose fault it looks like.
    pub fn fault(&self) -> Fault {
        match self.status {
            None => self.cause.unwrap_or(Fault::Network),
            Some(_) if is_throttling(&self.code) => Fault::Provider,
            Some(_) if is_limit(&self.code) => Fault::Quota,
            Some(status) if (400..500).contains(&status) => Fault::User,
            Some(_) => Fault::Provider,
        }
    }

    /// What is wrong, without what was asked and how often.
    pub fn in_short(&self) -> String {
        match self.code.as_str() {
            "" => self.message.clone(),
            code => format!("{code}: {}", self.message),
        }
    }
}

impl fmt::Display for ServiceError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "operation error {}: {}, ", self.service, self.action)?;
        if let Some(attempts) = self.attempts {
            write!(f, "exceeded maximum number of attempts, {attempts}, ")?;
        }
        let Some(status) = self.status else {
            let why = if self.cause.is_some() { "get credentials: " } else { "request send failed, " };
            return write!(f, "{why}{}", self.message);
        };
        if is_clock_skew(&self.code) {
            f.write_str("Probable clock skew error: ")?;
        }
        write!(f, "https response error StatusCode: {status}, RequestID: {}, ", self.request_id)?;
        match self.code.as_str() {
            "" => f.write_str(&self.message),
            code if has_type(self.service, code) => write!(f, "{code}: {}", self.message),
            code => write!(f, "api error {code}: {}", self.message),
        }
    }
}

/// Whether AWS's library for Go has a type for what is wrong; then it says no more of it.
fn has_type(service: &str, code: &str) -> bool {
    let types: &[&str] = match service {
        "IAM" => &[
            "ConcurrentModification",
            "DeleteConflict",
            "EntityAlreadyExists",
            "InvalidInput",
            "LimitExceeded",
            "MalformedPolicyDocument",
            "NoSuchEntity",
            "ServiceFailure",
            "UnmodifiableEntity",
        ],
        "SSM" => &["InternalServerError", "InvalidKeyId", "ParameterNotFound", "ParameterVersionNotFound"],
        "Secrets Manager" => &[
            "DecryptionFailure",
            "InternalServiceError",
            "InvalidParameterException",
            "InvalidRequestException",
            "ResourceNotFoundException",
        ],
        _ => &[],
    };
    types.contains(&code)
}

impl std::error::Error for ServiceError {}

impl From<ServiceError> for Error {
    fn from(error: ServiceError) -> Self {
        let made = Self::new(error.fault(), error.to_string());
        if error.retryable { made.retryable() } else { made }
    }
}

/// Whether calls come too fast.
pub fn is_throttling(code: &str) -> bool {
    matches!(
        code,
        "Throttling"
            | "ThrottlingException"
            | "ThrottledException"
            | "RequestThrottled"
            | "RequestThrottledException"
            | "RequestLimitExceeded"
            | "TooManyRequestsException"
            | "ProvisionedThroughputExceededException"
            | "BandwidthLimitExceeded"
            | "LimitExceededException"
            | "PriorRequestNotComplete"
            | "EC2ThrottledException"
            | "SlowDown"
    )
}

/// Whether a limit of the account is reached.
fn is_limit(code: &str) -> bool {
    code.contains("LimitExceeded") || code.contains("QuotaExceeded") || code.ends_with("LimitReached")
}

/// Whether the time of the request is what AWS does not like.
pub(super) fn is_clock_skew(code: &str) -> bool {
    matches!(code, "RequestExpired" | "RequestInTheFuture" | "RequestTimeTooSkewed")
}

/// Whether the time of the request may be what AWS does not like: it is where the clocks differ.
pub(super) fn may_be_clock_skew(code: &str) -> bool {
    matches!(code, "InvalidSignatureException" | "SignatureDoesNotMatch" | "AuthFailure")
}

/// Whether an answer is worth another try, in the order of AWS's own libraries.
pub(super) fn is_transient(status: u16, code: &str) -> bool {
    matches!(status, 429 | 500 | 502 | 503 | 504)
        || is_throttling(code)
        || is_clock_skew(code)
        || matches!(code, "RequestTimeout" | "RequestTimeoutException" | "TransactionInProgressException")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_has_a_type_is_told_without_further_words() {
        let shown = |code: &str| {
            let mut error = ServiceError::new("IAM", "CreateRole");
            (error.status, error.code, error.message) = (Some(409), code.to_owned(), "too many".to_owned());
            error.to_string().split_once("RequestID: , ").map(|(_, rest)| rest.to_owned())
        };
        assert_eq!(shown("LimitExceeded").as_deref(), Some("LimitExceeded: too many"));
        assert_eq!(shown("AccessDenied").as_deref(), Some("api error AccessDenied: too many"));
    }

    #[test]
    fn whose_fault_it_is() {
        let error = |status, code: &str| {
            let mut error = ServiceError::new("EC2", "RunInstances");
            (error.status, error.code) = (status, code.to_owned());
            error.fault()
        };
        assert_eq!(error(None, ""), Fault::Network);
        assert_eq!(error(Some(400), "VcpuLimitExceeded"), Fault::Quota);
        assert_eq!(error(Some(503), "RequestLimitExceeded"), Fault::Provider);
        assert_eq!(error(Some(403), "UnauthorizedOperation"), Fault::User);
        assert_eq!(error(Some(500), "InternalError"), Fault::Provider);
    }
}
