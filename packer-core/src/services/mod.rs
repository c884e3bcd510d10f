//! The outside services that functions of templates ask, each behind a cargo feature of this crate (`functions-vault`,
//! `functions-consul`, `functions-aws`), with the variables and files that the host lends.

#[cfg(feature = "functions-aws")]
mod aws_secret;
#[cfg(feature = "functions-consul")]
mod consul;
#[cfg(feature = "functions-vault")]
mod vault;

#[cfg(any(feature = "functions-aws", feature = "functions-consul", feature = "functions-vault"))]
use crate::kit::http;
use crate::language::functions::{Capabilities, Services};

/// The services themselves, found through the variables that their own tools use (`VAULT_ADDR`, `CONSUL_HTTP_ADDR`,
/// `AWS_REGION`, …) as far as the host lends them.
///
/// A service whose cargo feature is off gives an error that says so.
#[derive(Debug, Clone, Copy)]
pub struct RealServices;

#[cfg_attr(
    not(all(feature = "functions-aws", feature = "functions-consul", feature = "functions-vault")),
    expect(unused_variables, reason = "nobody is asked")
)]
impl Services for RealServices {
    fn vault(&self, cx: &Capabilities, path: &str, key: &str) -> Result<String, String> {
        #[cfg(feature = "functions-vault")]
        return http::wait(cx, || vault::read(cx, path, key));
        #[cfg(not(feature = "functions-vault"))]
        Err(missing("functions-vault"))
    }

    fn consul_key(&self, cx: &Capabilities, key: &str) -> Result<String, String> {
        #[cfg(feature = "functions-consul")]
        return http::wait(cx, || consul::read(cx, key));
        #[cfg(not(feature = "functions-consul"))]
        Err(missing("functions-consul"))
    }

    fn aws_secret(&self, cx: &Capabilities, name: &str) -> Result<String, String> {
        #[cfg(feature = "functions-aws")]
        return http::wait(cx, || aws_secret::read(cx, name));
        #[cfg(not(feature = "functions-aws"))]
        Err(missing("functions-aws"))
    }
}

#[cfg(not(all(feature = "functions-aws", feature = "functions-consul", feature = "functions-vault")))]
fn missing(feature: &str) -> String {
    format!("this program was built without the feature `{feature}` of packer-core")
}
