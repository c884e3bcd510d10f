//! Lists of checksums (`SHA256SUMS`): where they are, and what they say of a file.

use std::path::{Path, PathBuf};

use tokio::io::AsyncReadExt;

use super::checksum::{Checksum, Form, Sum};
use super::place::{Place, Way, clean};
use crate::context::Host;
use crate::error::{Error, Result, os_text};
use crate::kit::http;
use crate::secrets::url_without_secrets;

/// The longest list that is read.
const LONGEST: u64 = 16 << 20;

/// How long a server may take.
const LIMIT: std::time::Duration = std::time::Duration::from_secs(60);

impl Checksum {
    /// What a list says of the file that comes from `url`; other forms are what they are.
    pub(super) async fn resolved(&self, host: &Host, url: &str) -> Result<Self> {
        let Form::List(list) = &self.0 else { return Ok(self.clone()) };
        let place = Place::new(list);
        let at = url_without_secrets(&format!("file:{list}")).into_owned();
        let text = read(host, &place)
            .await
            .map_err(|e| e.map_message(|why| format!("Error downloading checksum file: {why} in {at:?}")))?;
        match find(&text, &names(&Place::new(url), &place)) {
            Some(sum) => Ok(Self(Form::Sum(sum))),
            None => {
                Err(Error::user(format!("no checksum found in: {} in {at:?}", url_without_secrets(list))))
            }
        }
    }
}

async fn read(host: &Host, place: &Place) -> Result<String> {
    let bytes = match &place.way {
        Way::Local(path) => {
            let fail = |verb: &str, e: std::io::Error| {
                let text = match verb {
                    "stat" => format!("source path error: stat {}: {}", path.display(), os_text(&e)),
                    _ => format!("{verb} {}: {}", path.display(), os_text(&e)),
                };
                Error::user(text).with_source(e)
            };
            let found = tokio::fs::metadata(path).await.map_err(|e| fail("stat", e))?;
            if !found.is_file() {
                return Err(Error::user("source path must be a file"));
            }
            let file = tokio::fs::File::open(path).await.map_err(|e| fail("open", e))?;
            let mut bytes = Vec::new();
            file.take(LONGEST + 1).read_to_end(&mut bytes).await.map_err(|e| fail("read", e))?;
            if bytes.len() as u64 > LONGEST {
                return Err(Error::user(format!("the list is longer than {} MiB", LONGEST >> 20)));
            }
            bytes
        }
        Way::Http(url) => {
            let client = http::client_for_files(&host.env).map_err(Error::user)?;
            let (status, body) =
                http::send(client.get(url.clone()).timeout(LIMIT), 2).await.map_err(Error::network)?;
            if !status.is_success() {
                return Err(Error::network(format!("bad response code: {}", status.as_u16())));
            }
            body
        }
        Way::Other => return Err(place.not_ours()),
    };
    Ok(String::from_utf8_lossy(&bytes).into_owned())
}

/// What a list may call a file.
fn names(file: &Place, list: &Place) -> Vec<String> {
    let base = file.base_name();
    let mut names = vec![base.clone()];
    let relative = match (&file.way, &list.way) {
        (Way::Local(file), Way::Local(list)) => {
            names.push(file.to_string_lossy().into_owned());
            list.parent().and_then(|folder| file.strip_prefix(folder).ok()).map(Path::to_owned)
        }
        (Way::Http(file), Way::Http(list)) if file.origin() == list.origin() => {
            let (file, list) = (Path::new(file.path()), Path::new(list.path()));
            list.parent().and_then(|folder| file.strip_prefix(folder).ok()).map(Path::to_owned)
        }
        _ => None,
    };
    let relative: Option<PathBuf> = relative.map(|path| clean(&path));
    if let Some(relative) = relative {
        names.push(relative.to_string_lossy().replace('\\', "/"));
    }
    names
}

/// The first line that is about one of the names, or about no file in particular.
fn find(text: &str, names: &[String]) -> Option<Sum> {
    text.lines().find_map(|line| {
        let (sum, name) = line_of(line)?;
        let Some(name) = name else { return Some(sum) };
        let name = name.strip_prefix(['*', '?']).unwrap_or(name);
        let name = name.strip_prefix("./").unwrap_or(name);
        names.iter().any(|one| one == name).then_some(sum)
    })
}

/// The checksum of a line and whose it is. What is neither a checksum nor known (comments, signatures, other kinds) is no
/// line.
fn line_of(line: &str) -> Option<(Sum, Option<&str>)> {
    let line = line.trim();
    // `SHA256 (NAME) = HEX`
    if let Some((kind, rest)) = line.split_once(" (")
        && let Some((name, hex)) = rest.rsplit_once(") = ")
        && !kind.contains(char::is_whitespace)
    {
        return Sum::of_kind(kind, hex.trim()).ok().map(|sum| (sum, Some(name)));
    }
    match line.split_once(char::is_whitespace) {
        // `HEX  NAME`
        Some((hex, name)) => Sum::bare(hex).ok().map(|sum| (sum, Some(name.trim_start()))),
        None => Sum::bare(line).ok().map(|sum| (sum, None)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const HEX: &str = "6022499ccf48e32b9a7ea7e7bca87efd9cf93604fa0163348b8e3f8a9e23f9c0";

    fn found(list: &str, file: &str) -> bool {
        let list = list.replace("HEX", HEX);
        find(&list, &names(&Place::new(file), &Place::new("SHA256SUMS"))).is_some_and(|sum| sum.hex == HEX)
    }

    #[test]
    fn lists_of_every_kind_are_read() {
        for list in [
            "HEX  disc.iso",
            "HEX *disc.iso",
            "HEX ?disc.iso",
            "HEX\tdisc.iso",
            "HEX  ./disc.iso",
            "HEX",
            "\u{20}HEX  disc.iso\r\n",
            "# sums\n\nHEX  disc.iso\n",
            "0000  x\nSHA256 (other.iso) = 00\nSHA256 (disc.iso) = HEX\n",
            "-----BEGIN PGP SIGNED MESSAGE-----\nHash: SHA256\n\nHEX  disc.iso\n-----BEGIN PGP SIGNATURE-----\n\niQEz\n",
        ] {
            assert!(found(list, "disc.iso"), "{list}");
            assert!(found(list, "http://h/x/disc.iso?a=b"), "{list}");
        }
        assert!(found("HEX  my disc.iso", "my disc.iso"));
        assert!(found("SHA256 (my disc.iso) = HEX", "http://h/my%20disc.iso"));
        for list in
            ["", "HEX  other.iso", "HEX  images/disc.iso", "SHA3-256 (disc.iso) = HEX", "HEX  disc.iso.old"]
        {
            assert!(!found(list, "disc.iso"), "{list}");
        }
    }

    #[test]
    fn a_file_beside_the_list_may_have_a_folder_before_its_name() {
        let sum = |file: &str, at: &str| {
            find(&format!("{HEX}  ./amd64/disc.iso"), &names(&Place::new(file), &Place::new(at))).is_some()
        };
        assert!(sum("http://h/x/amd64/disc.iso", "http://h/x/SHA256SUMS"));
        assert!(sum("d/amd64/disc.iso", "d/SHA256SUMS"));
        assert!(!sum("http://other/x/amd64/disc.iso", "http://h/x/SHA256SUMS"));
    }
}
