//! The HTTP server from which an installer fetches its answers.

mod answer;
mod folder;
mod serve;
mod sniff;
#[cfg(test)]
mod tests;
mod texts;

use std::collections::BTreeMap;
use std::io;
use std::net::{IpAddr, Ipv6Addr, SocketAddr, TcpListener};
use std::ops::RangeInclusive;
use std::path::PathBuf;
use std::time::Duration;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

pub use serve::HttpServer;

use crate::context::Context;
use crate::diagnostic::{Diagnostic, Diagnostics};
use crate::error::{Error, Result, os_text};
use serve::Site;
use texts::Texts;

/// The protocols that Packer takes.
const PROTOCOLS: [&str; 5] = ["tcp", "tcp4", "tcp6", "unix", "unixpacket"];

/// How often it is tried whether one of the ports has become free.
const PAUSE: Duration = Duration::from_millis(100);

/// What is served to a machine while it is built: the options that builders of whole machines take beside their own, with
/// `#[serde(flatten)]`.
#[derive(Debug, Clone, Default, PartialEq, Deserialize, Serialize, JsonSchema)]
#[serde(default)]
#[non_exhaustive]
pub struct HttpConfig {
    /// The folder that is served. Not with `http_content`.
    pub http_directory: String,
    /// What is served, by path: `{ "/preseed.cfg" = "…" }`.
    pub http_content: BTreeMap<String, String>,
    /// The first port to take. Default 8000.
    pub http_port_min: i64,
    /// The last one. Default 9000.
    pub http_port_max: i64,
    /// The address of this computer that the server listens on. Default: as narrow as the builder's network allows.
    pub http_bind_address: String,
    /// The interface whose address is told to the machine.
    pub http_interface: String,
    /// `tcp`, the default, `tcp4`, `tcp6`, `unix` or `unixpacket`.
    pub http_network_protocol: String,
}

impl HttpConfig {
    /// Checks the options, in Packer's words. The folder is looked for when the server starts.
    pub fn prepare(&self) -> Diagnostics {
        let mut found = Diagnostics::new();
        let mut error = |text: String| found.push(Diagnostic::error(text));
        let protocol = self.http_network_protocol.as_str();
        if !protocol.is_empty() && !PROTOCOLS.contains(&protocol) {
            let all = PROTOCOLS.join(" ");
            let text = format!("http_network_protocol is invalid. Must be one of: [{all}]");
            error(text);
        }
        let (min, max) = self.bounds();
        if min > max {
            error("http_port_min must be less than http_port_max".to_owned());
        }
        for (name, port) in [("http_port_min", min), ("http_port_max", max)] {
            if !(1..=i64::from(u16::MAX)).contains(&port) {
                error(format!("{name} must be a port: 1 to 65535"));
            }
        }
        if !self.http_interface.is_empty() && !self.http_bind_address.is_empty() {
            let text = "either http_interface or http_bind_address can be specified";
            error(text.to_owned());
        }
        if !self.http_content.is_empty() && !self.http_directory.is_empty() {
            let text = "http_content cannot be used in conjunction with http_directory: the function `file` reads a file \
                        into http_content";
            error(text.to_owned());
        }
        found
    }

    /// Starts the server, at an address of this computer that is as narrow as the machine's network allows, unless
    /// `http_bind_address` says another one; `None` where there is nothing to serve. Where each port of the range is taken it
    /// waits for one. What is asked is told as [events](crate::EventKind::Served).
    ///
    /// ```
    /// # #[cfg(feature = "testing")]
    /// # tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap().block_on(async {
    /// # let bench = packer_core::testing::Bench::new();
    /// # let cx = bench.context();
    /// use std::net::Ipv4Addr;
    /// use packer_core::kit::http_server::HttpConfig;
    /// let mut http = HttpConfig::default();
    /// http.http_content.insert("/ks.cfg".to_owned(), "text\n".to_owned());
    /// if let Some(server) = http.serve(cx, Ipv4Addr::LOCALHOST.into()).await? {
    ///     let url = format!("http://10.0.2.2:{}/ks.cfg", server.port());
    ///     // … the machine fetches it …
    /// # assert!((8000..=9000).contains(&server.port()));
    /// }
    /// # Ok::<(), packer_core::Error>(())
    /// # }).unwrap();
    /// ```
    ///
    /// # Errors
    /// `Error finding "FOLDER": …`; `Error finding port: …` where the address is none of this computer's or may not be used;
    /// cancellation.
    pub async fn serve(&self, cx: &Context, narrow: IpAddr) -> Result<Option<HttpServer>> {
        let site = match (self.http_directory.as_str(), self.http_content.is_empty()) {
            ("", true) => return Ok(None),
            ("", false) => Site::Texts(Texts::new(&self.http_content)),
            (folder, _) => {
                let found = tokio::fs::metadata(folder).await.map_err(|e| {
                    let text = format!("Error finding {folder:?}: stat {folder}: {}", os_text(&e));
                    Error::user(text).with_source(e)
                })?;
                if !found.is_dir() {
                    return Err(Error::user(format!("Error finding {folder:?}: it is not a folder")));
                }
                // A later change of the working folder changes nothing here.
                Site::Folder(std::path::absolute(folder).unwrap_or_else(|_| PathBuf::from(folder)))
            }
        };
        let address = self.address(cx, narrow).await?;
        let range = self.range()?;
        let mut told = false;
        let (claim, listener) = loop {
            let open = |port| TcpListener::bind(SocketAddr::new(address, port));
            match cx.claim_port(Some(range.clone()), open) {
                Ok(found) => break found,
                Err(Some(e)) if e.kind() != io::ErrorKind::AddrInUse => {
                    let text = format!("Error finding port: listen {address}: {}", os_text(&e));
                    return Err(Error::user(text).with_source(e));
                }
                Err(_) if !std::mem::replace(&mut told, true) => {
                    cx.say(format!("Waiting for a free port between {} and {}", range.start(), range.end()))
                }
                Err(_) => {}
            }
            cx.sleep(PAUSE).await?;
        };
        let server = HttpServer::start(cx, site, claim, listener)?;
        cx.say(format!("Starting HTTP server on port {}", server.port()));
        Ok(Some(server))
    }

    fn bounds(&self) -> (i64, i64) {
        let or = |port: i64, usual: i64| if port == 0 { usual } else { port };
        (or(self.http_port_min, 8000), or(self.http_port_max, 9000))
    }

    fn range(&self) -> Result<RangeInclusive<u16>> {
        let (min, max) = self.bounds();
        match (u16::try_from(min), u16::try_from(max)) {
            (Ok(min), Ok(max)) if min <= max => Ok(min..=max),
            _ => Err(Error::user("http_port_min must be less than http_port_max")),
        }
    }

    /// Where to listen.
    async fn address(&self, cx: &Context, narrow: IpAddr) -> Result<IpAddr> {
        let protocol = self.http_network_protocol.as_str();
        if matches!(protocol, "unix" | "unixpacket") {
            let text = format!(
                "http_network_protocol {protocol}: no machine fetches its files from a socket of this computer"
            );
            return Err(Error::user(text));
        }
        let fits = |address: &IpAddr| match protocol {
            "tcp4" => address.is_ipv4(),
            "tcp6" => address.is_ipv6(),
            _ => true,
        };
        let name = self.http_bind_address.trim_matches(['[', ']']);
        if name.is_empty() {
            return match narrow {
                IpAddr::V4(v4) if protocol == "tcp6" && v4.is_loopback() => Ok(Ipv6Addr::LOCALHOST.into()),
                IpAddr::V4(_) if protocol == "tcp6" => Ok(Ipv6Addr::UNSPECIFIED.into()),
                _ => Ok(narrow),
            };
        }
        let wrong =
            |why: String| Error::user(format!("Error finding port: http_bind_address {name:?}: {why}"));
        let found = cx.until_cancelled(async { Ok(tokio::net::lookup_host((name, 0)).await) }).await?;
        let mut found = found.map_err(|e| wrong(os_text(&e)))?.map(|address| address.ip());
        found.find(fits).ok_or_else(|| wrong(format!("it is no address of the protocol {protocol}")))
    }
}
