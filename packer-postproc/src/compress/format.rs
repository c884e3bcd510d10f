//! What an archive is to be, from its name.

/// What an archive is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Format {
    /// Many files, compressed as a whole or not at all.
    Tar(Option<Codec>),
    /// Many files, each compressed by itself.
    Zip,
    /// One compressed file.
    Single(Codec),
}

/// How bytes are compressed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Codec {
    Bgzf,
    Bzip2,
    Gzip,
    Lz4,
    Xz,
}

impl Format {
    /// What a name asks for. Only small letters and digits make an extension: `{{.BuildName}}` has none.
    pub(super) fn of(name: &str) -> Self {
        let extensions = extensions(name);
        let Some((&last, before)) = extensions.split_last() else { return Self::Tar(Some(Codec::Gzip)) };
        let codec = match last {
            "tar" => return Self::Tar(None),
            "zip" => return Self::Zip,
            "bgzf" => Codec::Bgzf,
            "bzip2" => Codec::Bzip2,
            "gz" => Codec::Gzip,
            "lz4" => Codec::Lz4,
            "xz" => Codec::Xz,
            _ => return Self::Tar(Some(Codec::Gzip)),
        };
        match before.last() {
            Some(&"tar") => Self::Tar(Some(codec)),
            _ => Self::Single(codec),
        }
    }

    /// The cargo feature that this needs and the library was built without.
    pub(super) fn missing_feature(self) -> Option<&'static str> {
        let (feature, built) = match self {
            Self::Zip => ("compress-zip", cfg!(feature = "compress-zip")),
            Self::Tar(None) => return None,
            Self::Tar(Some(codec)) | Self::Single(codec) => match codec {
                Codec::Bgzf | Codec::Gzip => return None,
                Codec::Bzip2 => ("compress-bzip2", cfg!(feature = "compress-bzip2")),
                Codec::Lz4 => ("compress-lz4", cfg!(feature = "compress-lz4")),
                Codec::Xz => ("compress-xz", cfg!(feature = "compress-xz")),
            },
        };
        (!built).then_some(feature)
    }
}

impl Codec {
    /// Its name in messages.
    pub(super) fn name(self) -> &'static str {
        match self {
            Self::Bgzf => "bgzf",
            Self::Bzip2 => "bzip2",
            Self::Gzip => "pgzip",
            Self::Lz4 => "lz4",
            Self::Xz => "xz",
        }
    }

    /// Whether all processors work on it.
    pub(super) fn is_parallel(self) -> bool {
        matches!(self, Self::Bgzf | Self::Gzip)
    }
}

/// Every run of small letters and digits behind a dot.
fn extensions(name: &str) -> Vec<&str> {
    let run = |text: &str| {
        text.find(|c: char| !(c.is_ascii_lowercase() || c.is_ascii_digit())).unwrap_or(text.len())
    };
    name.split('.').skip(1).map(|part| &part[..run(part)]).filter(|part| !part.is_empty()).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_and_what_they_ask_for() {
        let tar = |codec| Format::Tar(Some(codec));
        for (name, expected) in [
            ("packer_{{.BuildName}}_{{.BuilderType}}", tar(Codec::Gzip)),
            ("x.tar", Format::Tar(None)),
            ("x.zip", Format::Zip),
            ("x.tar.zip", Format::Zip),
            ("x.gz", Format::Single(Codec::Gzip)),
            ("{{.BuildName}}.gz", Format::Single(Codec::Gzip)),
            ("{{.BuildName}}-1.2.tar.xz", tar(Codec::Xz)),
            ("a.tar/b.lz4", tar(Codec::Lz4)),
            ("x.tar.bgzf", tar(Codec::Bgzf)),
            ("x.bzip2", Format::Single(Codec::Bzip2)),
            ("x.tar.bz2", tar(Codec::Gzip)),
            ("x.tgz", tar(Codec::Gzip)),
            ("x-1.2", tar(Codec::Gzip)),
            ("x.GZ", tar(Codec::Gzip)),
            ("x.gz-", Format::Single(Codec::Gzip)),
            ("", tar(Codec::Gzip)),
        ] {
            assert_eq!(Format::of(name), expected, "{name}");
        }
    }
}
