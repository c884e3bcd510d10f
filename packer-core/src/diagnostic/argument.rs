//! Paths of arguments: `drive[1].size`.

/// One step of the path to an argument.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Part<'a> {
    /// The name of an argument or a block, or the key of an entry.
    Name(&'a str),
    /// The place of a block among those of its name, or of an item in a list, from 0.
    Index(usize),
}

/// Takes a path apart. A key that is no name may stand in brackets, `tags["a.b"]`; what cannot be read ends the path.
pub(crate) fn parts(path: &str) -> impl Iterator<Item = Part<'_>> {
    let mut rest = path;
    std::iter::from_fn(move || {
        let part;
        (part, rest) = match rest.strip_prefix('[') {
            Some(inside) => match inside.strip_prefix('"') {
                Some(key) => key.split_once("\"]").map(|(key, rest)| (Part::Name(key), rest))?,
                None => {
                    let (number, rest) = inside.split_once(']')?;
                    (Part::Index(number.parse().ok()?), rest)
                }
            },
            None => {
                let name = rest.strip_prefix('.').unwrap_or(rest);
                let end = name.find(['.', '[']).unwrap_or(name.len());
                if end == 0 {
                    return None;
                }
                (Part::Name(&name[..end]), &name[end..])
            }
        };
        Some(part)
    })
}

#[cfg(test)]
mod tests {
    use super::Part::{Index, Name};
    use super::parts;

    #[test]
    fn paths_are_taken_apart_as_far_as_they_can_be_read() {
        let all = |path| parts(path).collect::<Vec<_>>();
        assert_eq!(all("drive[1].size"), [Name("drive"), Index(1), Name("size")]);
        assert_eq!(all("a.b.c[0][2]"), [Name("a"), Name("b"), Name("c"), Index(0), Index(2)]);
        assert_eq!(all("tags[\"a.b]\"].x"), [Name("tags"), Name("a.b]"), Name("x")]);
        for (path, most) in
            [("", 0), (".", 0), ("a..b", 1), ("a[", 1), ("a[-1]", 1), ("é[\"", 1), ("a[1", 1), ("[]", 0)]
        {
            assert_eq!(all(path).len(), most, "{path}");
        }
    }
}
