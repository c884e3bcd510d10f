//! Where a file comes from: a path, a URL, and what the URL says beside that.

use std::path::{Component, Path, PathBuf};

use percent_encoding::percent_decode_str;
use reqwest::Url;

use super::checksum::Checksum;
use crate::error::Error;
use crate::secrets::url_without_secrets;

/// A place of a file.
#[derive(Debug)]
pub(super) struct Place {
    /// As it was given.
    pub(super) given: String,
    pub(super) way: Way,
    /// What the URL says the checksum is.
    pub(super) checksum: Option<String>,
    /// How the file is packed; `None` for not at all.
    pub(super) packed: Option<Packed>,
    /// The part of the URL before the query.
    before: String,
    /// The pairs of the query without `checksum`, as they are.
    query: Vec<String>,
}

#[derive(Debug)]
pub(super) enum Way {
    /// An absolute path.
    Local(PathBuf),
    /// Without what is said to us alone: `checksum` and `archive`.
    Http(Url),
    Other,
}

/// How a file is packed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Packed {
    pub(super) compression: Option<Compression>,
    /// Whether the file is one of an archive, of which kind.
    pub(super) archive: Option<Archive>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Compression {
    Bzip2,
    Gzip,
    Xz,
    Zstd,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Archive {
    Tar,
    Zip,
}

/// The endings of names of packed files, longer ones first.
const ENDINGS: [(&str, Packed); 14] = {
    const fn packed(compression: Option<Compression>, archive: Option<Archive>) -> Packed {
        Packed { compression, archive }
    }
    use Compression::{Bzip2, Gzip, Xz, Zstd};
    const TAR: Option<Archive> = Some(Archive::Tar);
    [
        ("tar.bz2", packed(Some(Bzip2), TAR)),
        ("tar.zst", packed(Some(Zstd), TAR)),
        ("tar.gz", packed(Some(Gzip), TAR)),
        ("tar.xz", packed(Some(Xz), TAR)),
        ("tbz2", packed(Some(Bzip2), TAR)),
        ("tzst", packed(Some(Zstd), TAR)),
        ("bz2", packed(Some(Bzip2), None)),
        ("tar", packed(None, TAR)),
        ("tgz", packed(Some(Gzip), TAR)),
        ("txz", packed(Some(Xz), TAR)),
        ("zip", packed(None, Some(Archive::Zip))),
        ("zst", packed(Some(Zstd), None)),
        ("gz", packed(Some(Gzip), None)),
        ("xz", packed(Some(Xz), None)),
    ]
};

impl Place {
    pub(super) fn new(given: &str) -> Self {
        let (before, query) = given.split_once('?').unwrap_or((given, ""));
        let value = |name: &str| {
            let pairs = query.split('&').filter_map(|pair| pair.split_once('='));
            let found = pairs.into_iter().find(|(key, _)| *key == name);
            found.map(|(_, value)| decoded(&value.replace('+', " ")))
        };
        let without = |names: &[&str]| -> Vec<String> {
            let is_named = |pair: &str| names.contains(&pair.split('=').next().unwrap_or_default());
            query.split('&').filter(|pair| !pair.is_empty() && !is_named(pair)).map(str::to_owned).collect()
        };
        let scheme = scheme_of(before);
        let way = match scheme.as_deref() {
            None => Way::Local(local(before)),
            Some("file") => Way::Local(local(&path_of_file_url(before))),
            Some("http" | "https") => {
                let (rest, query) = (before, without(&["archive", "checksum"]));
                let url =
                    if query.is_empty() { rest.to_owned() } else { format!("{rest}?{}", query.join("&")) };
                Url::parse(&url).ok().filter(|url| url.has_host()).map_or(Way::Other, Way::Http)
            }
            Some(_) => Way::Other,
        };
        let packed = match value("archive").as_deref() {
            None | Some("") => ending(before),
            Some("true" | "1" | "t" | "T" | "TRUE" | "True") => ending(before),
            Some(named) => ENDINGS.iter().find(|(name, _)| *name == named).map(|(_, packed)| *packed),
        };
        let checksum = value("checksum").filter(|text| !text.is_empty());
        Self {
            given: given.to_owned(),
            way,
            checksum,
            packed,
            before: before.to_owned(),
            query: without(&["checksum"]),
        }
    }

    /// The URL for people.
    pub(super) fn shown(&self) -> String {
        url_without_secrets(&self.given).into_owned()
    }

    /// The same as Packer shows it: with the checksum.
    pub(super) fn shown_with(&self, checksum: &Checksum) -> String {
        let mut query = self.query.clone();
        if !checksum.is_none() {
            query.push(format!("checksum={}", checksum.to_string().replace(':', "%3A")));
        }
        let before = self.before.replace(' ', "%20");
        let url = if query.is_empty() { before } else { format!("{before}?{}", query.join("&")) };
        url_without_secrets(&url).into_owned()
    }

    /// The name of the file, without folders.
    pub(super) fn base_name(&self) -> String {
        match &self.way {
            Way::Local(path) => path.file_name().unwrap_or_default().to_string_lossy().into_owned(),
            _ => decoded(self.before.trim_end_matches('/').rsplit('/').next().unwrap_or_default()),
        }
    }

    /// Why nothing is fetched from here.
    pub(super) fn not_ours(&self) -> Error {
        let shown = self.shown();
        let why = match scheme_of(&self.before).as_deref() {
            Some("http" | "https") => "the URL is malformed".to_owned(),
            Some(scheme) => format!("files are fetched by http and https and from folders, not by {scheme}"),
            None => "it is no URL".to_owned(),
        };
        Error::user(format!("error downloading '{shown}': {why}"))
    }
}

/// The scheme of a URL in small letters; `None` for a path. What forces one of go-getter's ways (`git::…`) is a scheme too.
fn scheme_of(text: &str) -> Option<String> {
    let (scheme, rest) = text.split_once(':')?;
    // One letter is a drive of Windows.
    let is_scheme = scheme.len() > 1
        && scheme.starts_with(|c: char| c.is_ascii_alphabetic())
        && scheme.chars().all(|c| c.is_ascii_alphanumeric() || matches!(c, '+' | '-' | '.'));
    let is_url = rest.starts_with("//") || rest.starts_with(':') || scheme.eq_ignore_ascii_case("file");
    (is_scheme && is_url).then(|| scheme.to_ascii_lowercase())
}

/// The path of a `file:` URL. What stands where a host would is none of it, as in Packer.
fn path_of_file_url(url: &str) -> String {
    let rest = url.split_once(':').map_or("", |(_, rest)| rest);
    let path = match rest.strip_prefix("//") {
        Some(rest) => rest.find('/').and_then(|at| rest.get(at..)).unwrap_or_default(),
        None => rest,
    };
    // `/C:/x`
    let drive = path.strip_prefix('/').filter(|rest| cfg!(windows) && rest.get(1..2) == Some(":"));
    drive.unwrap_or(path).to_owned()
}

/// The absolute path of a local file, without `..`. It may be escaped as in URLs.
fn local(text: &str) -> PathBuf {
    let absolute = |text: &str| clean(&std::path::absolute(text).unwrap_or_else(|_| PathBuf::from(text)));
    let path = absolute(text);
    if text.contains('%') && !path.exists() { absolute(&decoded(text)) } else { path }
}

/// A path without `.` and `..`, by its text alone.
pub(super) fn clean(path: &Path) -> PathBuf {
    let mut cleaned = PathBuf::new();
    for part in path.components() {
        match part {
            Component::CurDir => {}
            Component::ParentDir => {
                cleaned.pop();
            }
            part => cleaned.push(part),
        }
    }
    cleaned
}

fn decoded(text: &str) -> String {
    percent_decode_str(text).decode_utf8_lossy().into_owned()
}

fn ending(path: &str) -> Option<Packed> {
    let fits = |ending: &str| path.strip_suffix(ending).is_some_and(|rest| rest.ends_with('.'));
    ENDINGS.iter().find(|(ending, _)| fits(ending)).map(|(_, packed)| *packed)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[cfg(unix)]
    #[test]
    fn paths_and_urls_are_told_apart() {
        let here = std::env::current_dir().unwrap();
        for (given, path) in [
            ("www/../www/disc.iso", here.join("www/disc.iso")),
            ("./www/disc.iso", here.join("www/disc.iso")),
            ("my%20disc.iso", here.join("my disc.iso")),
            ("/a/b?checksum=md5:00", "/a/b".into()),
            ("file:///a/b.iso", "/a/b.iso".into()),
            ("file://./www/disc.iso", "/www/disc.iso".into()),
            ("a:b", here.join("a:b")),
        ] {
            assert!(matches!(Place::new(given).way, Way::Local(found) if found == path), "{given}");
        }
        for given in ["gopher://x/y", "git::https://x/y", "s3::https://x", "http://"] {
            let place = Place::new(given);
            assert!(matches!(place.way, Way::Other), "{given}");
            assert!(place.not_ours().message().starts_with(&format!("error downloading '{given}'")));
        }
    }

    #[test]
    fn what_a_url_says_to_us_is_not_sent_and_the_rest_stays_as_it_is() {
        let place = Place::new("http://h/disc.iso.gz?z=%2f&checksum=md5%3A00&archive=false&a=1+2");
        let Way::Http(url) = &place.way else { panic!("{place:?}") };
        assert_eq!(url.as_str(), "http://h/disc.iso.gz?z=%2f&a=1+2");
        assert_eq!((place.checksum.as_deref(), place.packed), (Some("md5:00"), None));
        let sum = "md5:35793cae08d778633e70d924572f4170".parse().unwrap();
        assert_eq!(
            Place::new("http://me:geheim@h/my disc.iso?checksum=x").shown_with(&sum),
            "http://me:<sensitive>@h/my%20disc.iso?checksum=md5%3A35793cae08d778633e70d924572f4170"
        );
        assert_eq!(Place::new("x?a=b&c=d").shown_with(&Checksum::none()), "x?a=b&c=d");
        assert_eq!(Place::new("http://h/a%20b.iso?x").base_name(), "a b.iso");
    }

    #[test]
    fn packed_files_are_known_by_their_endings() {
        let of = |given: &str| Place::new(given).packed.map(|p| (p.compression, p.archive));
        assert_eq!(of("a.tar.gz"), Some((Some(Compression::Gzip), Some(Archive::Tar))));
        assert_eq!(of("http://h/a.gz"), Some((Some(Compression::Gzip), None)));
        assert_eq!(of("a.iso?archive=zip"), Some((None, Some(Archive::Zip))));
        assert_eq!(of("a.iso"), None);
        assert_eq!(of("gz"), None);
        assert_eq!(of("a.gz?archive=false"), None);
    }
}
