//! Names of images: `[REGISTRY/]REPOSITORY[:TAG][@DIGEST]`.

/// The parts of an image's name.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Reference<'a> {
    /// Everything before tag and digest.
    pub repository: &'a str,
    /// The tag.
    pub tag: Option<&'a str>,
    /// The digest, with its algorithm: `sha256:…`.
    pub digest: Option<&'a str>,
}

impl<'a> Reference<'a> {
    /// Takes a name apart; whether the parts are well formed is the engine's to say.
    ///
    /// ```
    /// use packer_core::docker::Reference;
    /// let name = Reference::parse("ghcr.io:443/acme/web:1.2");
    /// assert_eq!((name.repository, name.tag), ("ghcr.io:443/acme/web", Some("1.2")));
    /// assert_eq!(name.registry(), "ghcr.io:443");
    /// assert_eq!(Reference::parse("debian").registry(), "docker.io");
    /// ```
    pub fn parse(name: &'a str) -> Self {
        let (rest, digest) = match name.split_once('@') {
            Some((rest, digest)) => (rest, Some(digest)),
            None => (name, None),
        };
        let last = rest.rfind('/').map_or(0, |slash| slash + 1);
        match rest[last..].find(':') {
            Some(colon) => {
                let (repository, tag) = rest.split_at(last + colon);
                Self { repository, tag: Some(&tag[1..]), digest }
            }
            None => Self { repository: rest, tag: None, digest },
        }
    }

    /// The registry it is kept in.
    pub fn registry(&self) -> &'a str {
        match self.repository.split_once('/') {
            Some((first, _)) if first.contains(['.', ':']) || first == "localhost" => first,
            _ => "docker.io",
        }
    }

    /// What a pull asks for beside the repository: the digest, else the tag, else `latest`.
    pub fn version(&self) -> &'a str {
        self.digest.or(self.tag).unwrap_or("latest")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_come_apart() {
        let parts = |name| {
            let r = Reference::parse(name);
            (r.repository, r.tag, r.digest, r.registry())
        };
        assert_eq!(parts("debian:12"), ("debian", Some("12"), None, "docker.io"));
        assert_eq!(parts("a/b"), ("a/b", None, None, "docker.io"));
        assert_eq!(parts("localhost/b"), ("localhost/b", None, None, "localhost"));
        assert_eq!(parts("127.0.0.1:5000/b"), ("127.0.0.1:5000/b", None, None, "127.0.0.1:5000"));
        assert_eq!(parts("r.io/a:1@sha256:ab"), ("r.io/a", Some("1"), Some("sha256:ab"), "r.io"));
        assert_eq!(parts(""), ("", None, None, "docker.io"));
        assert_eq!(Reference::parse("a@sha256:ab").version(), "sha256:ab");
        assert_eq!(Reference::parse("a").version(), "latest");
    }
}
