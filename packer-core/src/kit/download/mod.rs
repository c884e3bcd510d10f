//! Installers and other files from elsewhere: fetched once, checked, kept in a cache that processes share.

mod checksum;
mod fetch;
mod list;
mod place;
#[cfg(test)]
mod tests;
mod transfer;
mod turn;
mod unpack;

use std::sync::OnceLock;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

pub use checksum::Checksum;
pub use fetch::{Download, Downloaded};

use crate::context::{Context, Host, PrepareContext};
use crate::diagnostic::{Diagnostic, Diagnostics};
use crate::error::{Error, Result};
use crate::kit;

/// What is downloaded before a machine starts: the options that builders of whole machines take beside their own, with
/// `#[serde(flatten)]`.
#[derive(Debug, Clone, Default, PartialEq, Deserialize, Serialize, JsonSchema)]
#[serde(default)]
#[non_exhaustive]
pub struct IsoConfig {
    /// Where the installer or disk image is: a URL or a path. This or `iso_urls`.
    pub iso_url: String,
    /// Several places of the same file; each is tried until one gives what the checksum says.
    pub iso_urls: Vec<String>,
    /// What the file must be: `sha256:HEX` (or `sha512`, `sha1`, `md5`), the bare digits, `file:` and the URL or path of a list
    /// of checksums, or `none`.
    pub iso_checksum: String,
    /// Where the file is kept, in place of the cache: a path, a folder where it has no extension.
    pub iso_target_path: String,
    /// The extension of the kept file. Default `iso`.
    pub iso_target_extension: String,
    #[serde(skip)]
    #[schemars(skip)]
    found: Found,
}

/// What a list said of a checksum when the options were checked, so that the build has what was checked. It is no option.
#[derive(Debug, Clone, Default)]
struct Found(OnceLock<((String, String), Checksum)>);

impl PartialEq for Found {
    fn eq(&self, _: &Self) -> bool {
        true
    }
}

impl IsoConfig {
    /// Checks the options, in Packer's words. A list of checksums (`file:`) is read or fetched here, as Packer does; nothing
    /// else is looked for.
    ///
    /// ```
    /// # #[cfg(feature = "testing")]
    /// # tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap().block_on(async {
    /// # let bench = packer_core::testing::Bench::new();
    /// use packer_core::kit::download::IsoConfig;
    /// let mut iso = IsoConfig::default();
    /// iso.iso_url = "https://example.com/debian.iso".to_owned();
    /// let found = iso.prepare(bench.prepare_context()).await;
    /// assert_eq!(found.to_string(), "A checksum must be specified");
    /// # });
    /// ```
    pub async fn prepare(&self, cx: &PrepareContext) -> Diagnostics {
        let mut found = Diagnostics::new();
        let mut error = |text: String| found.push(Diagnostic::error(text));
        match (self.iso_url.is_empty(), self.urls().is_empty()) {
            (_, true) => error("One of iso_url or iso_urls must be specified".to_owned()),
            (false, _) if !self.iso_urls.is_empty() => {
                error("Only one of iso_url or iso_urls must be specified".to_owned());
            }
            _ => {}
        }
        let text = &self.iso_checksum;
        if text.is_empty() {
            error("A checksum must be specified".to_owned());
            return found;
        }
        if text.to_lowercase().ends_with(".iso") && !text.starts_with("file:") {
            let text = "Error parsing checksum: .iso is not a valid checksum ending";
            error(text.to_owned());
        }
        match self.resolved(&cx.host).await {
            Err(e) => error(e.message().to_owned()),
            Ok(checksum) if checksum.is_none() => found.push(Diagnostic::warning(
                "A checksum of 'none' was specified. Since ISO files are so big,\na checksum is highly recommended.",
            )),
            Ok(_) => {}
        }
        found
    }

    /// The places in order: `iso_url` or `iso_urls`.
    pub fn urls(&self) -> Vec<&str> {
        let all = std::iter::once(&self.iso_url).chain(&self.iso_urls);
        all.map(String::as_str).filter(|url| !url.is_empty()).collect()
    }

    /// Fetches the file, or uses it where it is: see [`Download`].
    ///
    /// # Errors
    /// `error downloading ISO: […]`; cancellation.
    pub async fn fetch(&self, cx: &Context) -> Result<Downloaded> {
        let checksum = cx.until_cancelled(self.resolved(cx.host())).await?;
        let mut download = Download::new("ISO").checksum(checksum).target(&self.iso_target_path);
        if !self.iso_target_extension.is_empty() {
            download = download.extension(&self.iso_target_extension);
        }
        self.urls().into_iter().fold(download, |download, url| download.from(url)).fetch(cx).await
    }

    /// The checksum of the file as `sha256:HEX` (or another kind), also one that a list or the first URL says. Where there is
    /// none, that of a file on this computer as it is now, and else `None`.
    ///
    /// # Errors
    /// Where a list or the file cannot be read; where what is given is no checksum; cancellation.
    pub async fn digest(&self, cx: &Context) -> Result<Option<String>> {
        let first = self.urls().into_iter().next().unwrap_or_default();
        let place = place::Place::new(first);
        let checksum = match place.checksum {
            Some(own) => cx.until_cancelled(own.parse::<Checksum>()?.resolved(cx.host(), first)).await?,
            None => cx.until_cancelled(self.resolved(cx.host())).await?,
        };
        match place.way {
            _ if !checksum.is_none() => Ok(Some(checksum.to_string())),
            place::Way::Local(path) => Ok(Some(format!("sha256:{}", kit::digest_file(cx, path).await?))),
            _ => Ok(None),
        }
    }

    /// The last of the URLs whose server gives parts of the file, for a machine that reads it from there (`iso_skip_cache`).
    /// It is given back as it is, with a password where it has one: that is registered as a secret.
    ///
    /// # Errors
    /// `No byte serving support. …` where there is none; cancellation.
    pub async fn byte_serving_url(&self, cx: &Context) -> Result<String> {
        let mut found = None;
        for url in self.urls() {
            cx.secrets().add_url(url);
            if let place::Way::Http(address) = &place::Place::new(url).way
                && transfer::Source::new(cx, address)?.serves_bytes().await?
            {
                found = Some(url);
            }
        }
        found.map(str::to_owned).ok_or_else(|| {
            Error::user("No byte serving support. The HTTP server must support Accept-Ranges=bytes")
        })
    }

    async fn resolved(&self, host: &Host) -> Result<Checksum> {
        let first = self.urls().into_iter().next().unwrap_or_default();
        let asked = (self.iso_checksum.clone(), first.to_owned());
        if let Some((known, checksum)) = self.found.0.get()
            && *known == asked
        {
            return Ok(checksum.clone());
        }
        let checksum = self.iso_checksum.parse::<Checksum>()?.resolved(host, first).await?;
        let _ = self.found.0.set((asked, checksum.clone()));
        Ok(checksum)
    }
}
