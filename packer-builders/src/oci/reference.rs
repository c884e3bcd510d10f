//! Names of images in registries, as `docker` writes them: `[REGISTRY/]REPOSITORY[:TAG][@DIGEST]`. The grammar is that of
//! the distribution project, <https://pkg.go.dev/github.com/distribution/reference>.

use std::fmt;
use std::str::FromStr;

use super::layer::is_digest;

/// The registry that is meant where none is named.
const HUB: &str = "docker.io";

/// The longest name of a repository.
const LONGEST: usize = 255;

/// A name whose parts are known.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Reference {
    registry: String,
    repository: String,
    tag: Option<String>,
    digest: Option<String>,
}

impl Reference {
    /// `HOST[:PORT]`, as it is shown.
    pub(super) fn registry(&self) -> &str {
        &self.registry
    }

    /// `HOST[:PORT]`, as it is reached.
    pub(super) fn host(&self) -> &str {
        match &*self.registry {
            HUB => "index.docker.io",
            registry => registry,
        }
    }

    /// The name in the registry.
    pub(super) fn repository(&self) -> &str {
        &self.repository
    }

    /// The tag; `latest` where neither it nor a digest was given.
    pub(super) fn tag(&self) -> Option<&str> {
        self.tag.as_deref()
    }

    /// The digest, where one was given.
    pub(super) fn digest(&self) -> Option<&str> {
        self.digest.as_deref()
    }
}

impl FromStr for Reference {
    type Err = &'static str;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let (rest, digest) = match text.split_once('@') {
            Some((_, digest)) if !is_digest(digest) => {
                return Err("behind the @ stands no sha256 digest: sha256: and 64 digits of 0-9 and a-f");
            }
            Some((rest, digest)) => (rest, Some(digest)),
            None => (text, None),
        };
        // A colon before the last slash is a port's.
        let (name, tag) = match rest.rsplit_once(':') {
            Some((name, tag)) if !tag.contains('/') => (name, Some(tag)),
            _ => (rest, None),
        };
        if tag.is_some_and(|tag| !is_tag(tag)) {
            return Err("the tag may hold up to 128 letters, digits and - . _");
        }
        let (registry, path) = match name.split_once('/') {
            Some((host, path)) if host.contains(['.', ':']) || host == "localhost" => (host, path),
            _ => (HUB, name),
        };
        if !is_registry(registry) {
            return Err("the registry is not HOST or HOST:PORT");
        }
        if path.is_empty() || !path.split('/').all(is_component) {
            return Err("the repository may hold lower-case letters and digits, between them - . _ and /");
        }
        let registry = if registry == "index.docker.io" { HUB } else { registry };
        let repository = match registry == HUB && !path.contains('/') {
            true => format!("library/{path}"),
            false => path.to_owned(),
        };
        if repository.len() > LONGEST {
            return Err("the repository is longer than 255 letters");
        }
        let tag = tag.or(if digest.is_none() { Some("latest") } else { None });
        Ok(Self {
            registry: registry.to_owned(),
            repository,
            tag: tag.map(str::to_owned),
            digest: digest.map(str::to_owned),
        })
    }
}

fn is_tag(tag: &str) -> bool {
    let word = |c: u8| c.is_ascii_alphanumeric() || c == b'_';
    let inner = |c: u8| word(c) || c == b'-' || c == b'.';
    tag.bytes().next().is_some_and(word) && tag.bytes().all(inner) && tag.len() <= 128
}

/// `HOST` or `HOST:PORT`; an IPv6 address stands in brackets.
fn is_registry(registry: &str) -> bool {
    let (host, port) = match registry.rsplit_once(':') {
        Some((host, port)) if !port.ends_with(']') => (host, Some(port)),
        _ => (registry, None),
    };
    let label = |label: &str| {
        let inner = label.bytes().all(|c| c.is_ascii_alphanumeric() || c == b'-');
        !label.is_empty() && inner && !label.starts_with('-') && !label.ends_with('-')
    };
    let is_host = match host.strip_prefix('[').and_then(|host| host.strip_suffix(']')) {
        Some(address) => address.parse::<std::net::Ipv6Addr>().is_ok(),
        None => host.split('.').all(label),
    };
    is_host && port.is_none_or(|port| port.parse::<u16>().is_ok() && port.bytes().all(|c| c.is_ascii_digit()))
}

/// A part between slashes: words of lower-case letters and digits, and between two of them `.`, `_`, `__` or dashes.
fn is_component(part: &str) -> bool {
    let word = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit();
    let between = |gap: &str| matches!(gap, "." | "_" | "__") || gap.bytes().all(|c| c == b'-');
    part.starts_with(word) && part.ends_with(word) && part.split(word).all(between)
}

impl fmt::Display for Reference {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.registry, self.repository)?;
        self.tag.as_ref().map_or(Ok(()), |tag| write!(f, ":{tag}"))?;
        self.digest.as_ref().map_or(Ok(()), |digest| write!(f, "@{digest}"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn parts_of_a_name() {
        let digest = format!("sha256:{}", "0a".repeat(32));
        for (text, shown, host) in [
            ("busybox", "docker.io/library/busybox:latest", "index.docker.io"),
            ("a.b:1", "docker.io/library/a.b:1", "index.docker.io"),
            ("a/b_c.d-e__f---g:X.y_z-1", "docker.io/a/b_c.d-e__f---g:X.y_z-1", "index.docker.io"),
            ("index.docker.io/x", "docker.io/library/x:latest", "index.docker.io"),
            ("localhost/x", "localhost/x:latest", "localhost"),
            ("h:5000/x/y/z", "h:5000/x/y/z:latest", "h:5000"),
            ("[::1]:5000/x:_", "[::1]:5000/x:_", "[::1]:5000"),
            ("Sub-1.Example.com/x:t", "Sub-1.Example.com/x:t", "Sub-1.Example.com"),
            (&format!("ghcr.io/x@{digest}"), &format!("ghcr.io/x@{digest}"), "ghcr.io"),
            (&format!("ghcr.io/x:1@{digest}"), &format!("ghcr.io/x:1@{digest}"), "ghcr.io"),
        ] {
            let reference: Reference = text.parse().unwrap();
            assert_eq!((reference.to_string().as_str(), reference.host()), (shown, host), "{text}");
        }
    }

    #[test]
    fn what_is_no_name() {
        let long = "a".repeat(256);
        let tag = format!("x:{}", "a".repeat(129));
        for wrong in [
            "",
            ":t",
            "@sha256:0",
            "X",
            "X:t",
            "x:",
            "x:-a",
            "x: a",
            "x/",
            "/x",
            "x//y",
            "x_",
            "_x",
            "x...y",
            "x___y",
            "x._y",
            "x@sha256:12",
            "x@md5:00",
            "h:5000/X/y:t",
            "h:/x",
            "h:p/x",
            "h:99999/x",
            "-h.a/x",
            "h..a/x",
            "[::g]/x",
            "a b",
            "x\n",
            "ä/x",
            &long,
            &tag,
        ] {
            assert!(wrong.parse::<Reference>().is_err(), "{wrong:?}");
        }
    }
}
