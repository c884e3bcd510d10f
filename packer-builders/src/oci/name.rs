//! Names of images, as `skopeo` writes them: `oci:DIR:TAG`, `oci-archive:FILE:TAG`, `docker-archive:FILE:NAME`,
//! `docker://NAME`; a base may also be `scratch` or `rootfs:PATH`.

use std::fmt;
use std::path::PathBuf;

use packer_core::{Error, Result};

use super::reference::Reference;

/// Where an image is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum ImageName {
    /// In a folder laid out as the OCI says.
    Layout { folder: PathBuf, tag: Option<String> },
    /// The same in a tar.
    OciArchive { file: PathBuf, tag: Option<String> },
    /// In a tar as `docker save` writes it.
    DockerArchive { file: PathBuf, name: Option<String> },
    /// In a registry.
    Registry(Reference),
}

/// What a build starts from.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum BaseName {
    /// Nothing at all.
    Scratch,
    /// A folder or a tar that holds a root filesystem.
    Rootfs(PathBuf),
    /// An image.
    Image(ImageName),
}

const FORMS: &str = "oci:DIR:TAG, oci-archive:FILE:TAG, docker-archive:FILE:NAME or docker://NAME";

impl ImageName {
    pub(super) fn parse(text: &str) -> Result<Self> {
        let wrong = |what: &str| Error::user(format!("{text:?} names no image: {what}"));
        let (transport, rest) = text.split_once(':').ok_or_else(|| wrong(&format!("it is not {FORMS}")))?;
        if transport == "docker" {
            let name = rest.strip_prefix("//").ok_or_else(|| wrong("it is not docker://NAME"))?;
            let reference = name.parse().map_err(wrong)?;
            return Ok(Self::Registry(reference));
        }
        let (path, tag) = match rest.split_once(':') {
            Some((path, tag)) => (path, Some(tag.to_owned())),
            None => (rest, None),
        };
        if path.is_empty() {
            return Err(wrong("the path is empty"));
        }
        let path = PathBuf::from(path);
        match transport {
            "oci" | "oci-archive" => {
                if let Some(tag) = &tag
                    && !is_tag(tag)
                {
                    return Err(wrong("the tag may hold letters, digits and - . _ : @ / +"));
                }
                Ok(match transport {
                    "oci" => Self::Layout { folder: path, tag },
                    _ => Self::OciArchive { file: path, tag },
                })
            }
            "docker-archive" => {
                let name = tag.filter(|name| !name.is_empty()).map(|name| full_name(&name));
                Ok(Self::DockerArchive { file: path, name: name.transpose().map_err(|e| wrong(&e))? })
            }
            _ => Err(wrong(&format!("it is not {FORMS}"))),
        }
    }
}

/// As `docker` shows it: with a tag, and without what is meant where nothing is said.
fn full_name(name: &str) -> Result<String, String> {
    let reference: Reference = name.parse()?;
    if reference.digest().is_some() {
        return Err("an archive knows no digest".to_owned());
    }
    let repository = reference.repository();
    let repository = match reference.registry() {
        "docker.io" => repository.strip_prefix("library/").unwrap_or(repository).to_owned(),
        registry => format!("{registry}/{repository}"),
    };
    Ok(format!("{repository}:{}", reference.tag().unwrap_or("latest")))
}

/// What the OCI allows in the name of an image in a layout.
fn is_tag(tag: &str) -> bool {
    let inner = |c: char| c.is_ascii_alphanumeric() || "-._:@/+".contains(c);
    tag.starts_with(|c: char| c.is_ascii_alphanumeric()) && tag.chars().all(inner)
}

impl fmt::Display for ImageName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut local = |kind: &str, path: &PathBuf, tag: &Option<String>| {
            write!(f, "{kind}:{}", path.display())?;
            tag.as_ref().map_or(Ok(()), |tag| write!(f, ":{tag}"))
        };
        match self {
            Self::Layout { folder, tag } => local("oci", folder, tag),
            Self::OciArchive { file, tag } => local("oci-archive", file, tag),
            Self::DockerArchive { file, name } => local("docker-archive", file, name),
            Self::Registry(reference) => write!(f, "docker://{reference}"),
        }
    }
}

impl BaseName {
    pub(super) fn parse(text: &str) -> Result<Self> {
        match text {
            "" | "scratch" => Ok(Self::Scratch),
            "rootfs:" => Err(Error::user("\"rootfs:\" names no base: the path is empty")),
            _ => match text.strip_prefix("rootfs:") {
                Some(path) => Ok(Self::Rootfs(path.into())),
                None => ImageName::parse(text).map(Self::Image),
            },
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_those_of_skopeo() {
        for (text, shown) in [
            ("oci:out/dir:1.0", "oci:out/dir:1.0"),
            ("oci:out", "oci:out"),
            ("oci-archive:a.tar:v1", "oci-archive:a.tar:v1"),
            ("docker-archive:a.tar", "docker-archive:a.tar"),
            ("docker-archive:a.tar:busybox", "docker-archive:a.tar:busybox:latest"),
            ("docker-archive:a.tar:ghcr.io/a/b:2", "docker-archive:a.tar:ghcr.io/a/b:2"),
            ("docker://alpine", "docker://docker.io/library/alpine:latest"),
            ("docker://127.0.0.1:5000/a/b:c", "docker://127.0.0.1:5000/a/b:c"),
        ] {
            assert_eq!(ImageName::parse(text).unwrap().to_string(), shown, "{text}");
        }
        for wrong in
            ["", "alpine", "oci:", "oci::x", "oci:a:b c", "docker:x", "docker://", "docker://A", "dir:x"]
        {
            assert!(ImageName::parse(wrong).is_err(), "{wrong}");
        }
        assert_eq!(BaseName::parse("scratch").unwrap(), BaseName::Scratch);
        assert_eq!(BaseName::parse("rootfs:a.tar").unwrap(), BaseName::Rootfs("a.tar".into()));
        assert!(BaseName::parse("rootfs:").is_err());
    }
}
