//! Version constraints: `>= 1.7, < 2.0`, as `required_version` and `required_plugins` write them.

use std::cmp::Ordering;
use std::fmt;
use std::sync::LazyLock;

use regex::Regex;

/// A version: numbers, and the name of a pre-release.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Version {
    /// At least three; missing ones are zero.
    numbers: Vec<u64>,
    /// How many were written.
    written: usize,
    pre_release: String,
}

/// What a version must fulfil: all parts at once.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct VersionConstraint {
    parts: Vec<(Operator, Version)>,
    text: String,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Operator {
    Equal,
    NotEqual,
    Greater,
    GreaterOrEqual,
    Less,
    LessOrEqual,
    /// `~> 1.2.3`: the last number may grow.
    Pessimistic,
}

impl VersionConstraint {
    /// Reads a constraint; `None` where the text is none.
    pub fn parse(text: &str) -> Option<Self> {
        let parts = text.split(',').map(parse_part).collect::<Option<Vec<_>>>()?;
        Some(Self { parts, text: text.to_owned() })
    }

    /// Whether a version fulfils it; a text that is no version does not.
    pub fn admits(&self, version: &str) -> bool {
        Version::parse(version).is_some_and(|v| self.parts.iter().all(|(op, c)| op.admits(&v, c)))
    }

    /// Whether it names a pre-release.
    pub fn names_pre_release(&self) -> bool {
        self.parts.iter().any(|(_, c)| !c.pre_release.is_empty())
    }
}

/// The version `wanted` in its full form and whether `actual` is older; `None` where either text is no version.
pub(super) fn is_older(actual: &str, wanted: &str) -> Option<(String, bool)> {
    let (actual, wanted) = (Version::parse(actual)?, Version::parse(wanted)?);
    let mut text = wanted.numbers.iter().map(u64::to_string).collect::<Vec<_>>().join(".");
    if !wanted.pre_release.is_empty() {
        text.push('-');
        text.push_str(&wanted.pre_release);
    }
    Some((text, actual < wanted))
}

/// As it was written.
impl fmt::Display for VersionConstraint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.text)
    }
}

fn parse_part(text: &str) -> Option<(Operator, Version)> {
    let text = text.trim();
    let (op, rest) = [
        ("!=", Operator::NotEqual),
        (">=", Operator::GreaterOrEqual),
        ("<=", Operator::LessOrEqual),
        ("~>", Operator::Pessimistic),
        ("=", Operator::Equal),
        (">", Operator::Greater),
        ("<", Operator::Less),
    ]
    .into_iter()
    .find_map(|(sign, op)| Some((op, text.strip_prefix(sign)?)))
    .unwrap_or((Operator::Equal, text));
    Some((op, Version::parse(rest.trim_start())?))
}

impl Version {
    fn parse(text: &str) -> Option<Self> {
        static SHAPE: LazyLock<Option<Regex>> = LazyLock::new(|| {
            Regex::new(
                r"^v?([0-9]+(?:\.[0-9]+)*)(?:-([0-9]+[0-9A-Za-z~-]*(?:\.[0-9A-Za-z~-]+)*)|-?([A-Za-z~-]+[0-9A-Za-z~-]*(?:\.[0-9A-Za-z~-]+)*))?(?:\+[0-9A-Za-z~-]+(?:\.[0-9A-Za-z~-]+)*)?$",
            )
            .ok()
        });
        let found = SHAPE.as_ref()?.captures(text)?;
        let mut numbers =
            found.get(1)?.as_str().split('.').map(|n| n.parse().ok()).collect::<Option<Vec<u64>>>()?;
        let written = numbers.len();
        numbers.resize(written.max(3), 0);
        let pre_release = found.get(2).or_else(|| found.get(3)).map_or("", |m| m.as_str()).to_owned();
        Some(Self { numbers, written, pre_release })
    }
}

impl PartialOrd for Version {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

impl Ord for Version {
    fn cmp(&self, other: &Self) -> Ordering {
        let length = self.numbers.len().max(other.numbers.len());
        let padded =
            |v: &Self| (0..length).map(|i| v.numbers.get(i).copied().unwrap_or(0)).collect::<Vec<_>>();
        padded(self)
            .cmp(&padded(other))
            .then_with(|| compare_pre_releases(&self.pre_release, &other.pre_release))
    }
}

/// None is later than any; numbers come before words and compare as numbers; more parts are later.
fn compare_pre_releases(a: &str, b: &str) -> Ordering {
    match (a.is_empty(), b.is_empty()) {
        (true, true) => return Ordering::Equal,
        (true, false) => return Ordering::Greater,
        (false, true) => return Ordering::Less,
        (false, false) => {}
    }
    let (mut left, mut right) = (a.split('.'), b.split('.'));
    loop {
        let order = match (left.next(), right.next()) {
            (None, None) => return Ordering::Equal,
            (None, Some(_)) => Ordering::Less,
            (Some(_), None) => Ordering::Greater,
            (Some(l), Some(r)) => match (l.parse::<u64>(), r.parse::<u64>()) {
                (Ok(l), Ok(r)) => l.cmp(&r),
                (Ok(_), Err(_)) => Ordering::Less,
                (Err(_), Ok(_)) => Ordering::Greater,
                (Err(_), Err(_)) => l.cmp(r),
            },
        };
        if order != Ordering::Equal {
            return order;
        }
    }
}

impl Operator {
    fn admits(self, version: &Version, constraint: &Version) -> bool {
        let (pre, named) = (!version.pre_release.is_empty(), !constraint.pre_release.is_empty());
        // A pre-release is only meant where the constraint names one of the same version.
        let meant = match (pre, named) {
            (true, true) => version.numbers == constraint.numbers,
            (true, false) => false,
            (false, _) => true,
        };
        match self {
            Self::Equal => version.cmp(constraint) == Ordering::Equal,
            Self::NotEqual => version.cmp(constraint) != Ordering::Equal,
            Self::Greater => meant && version > constraint,
            Self::GreaterOrEqual => meant && version >= constraint,
            Self::Less => meant && version < constraint,
            Self::LessOrEqual => meant && version <= constraint,
            Self::Pessimistic => {
                meant
                    && (pre || !named)
                    && version >= constraint
                    && version.numbers.len() >= constraint.numbers.len()
                    && version
                        .numbers
                        .iter()
                        .zip(&constraint.numbers)
                        .take(constraint.written - 1)
                        .all(|(v, c)| v == c)
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn constraints() {
        for (constraint, version, admitted) in [
            (">= 1.7.0, < 2.0.0", "1.16.0", true),
            ("> 99", "1.16.0", false),
            ("1.16", "1.16.0", true),
            ("= v1.16.0", "1.16.0", true),
            ("!= 1.16.0", "1.16.0", false),
            ("~> 1.2", "1.16.0", true),
            ("~> 1.2", "2.0.0", false),
            ("~> 1.2.3", "1.2.9", true),
            ("~> 1.2.3", "1.3.0", false),
            ("~> 1", "9.0.0", true),
            (">= 1.0.0-beta", "1.0.0", true),
            ("~> 1.0.0-beta", "1.0.0", false),
            ("> 1.0.0", "1.1.0-rc1", false),
            (">= 1.1.0-rc.2", "1.1.0-rc.10", true),
            (" >=1.7 ,<= 1.16.0 ", "1.16.0", true),
        ] {
            let parsed = VersionConstraint::parse(constraint).unwrap_or_else(|| panic!("{constraint}"));
            assert_eq!(parsed.admits(version), admitted, "{constraint} on {version}");
        }
        for (wanted, found) in [
            ("99.0", Some(("99.0.0", true))),
            ("1.16", Some(("1.16.0", false))),
            ("v1.16.0-dev", Some(("1.16.0-dev", false))),
            ("1.17.0-rc1", Some(("1.17.0-rc1", true))),
            ("new", None),
        ] {
            assert_eq!(
                is_older("1.16.0", wanted),
                found.map(|(text, older)| (text.to_owned(), older)),
                "{wanted}"
            );
        }
        for bad in ["latest", "", ">= ", "1.x", ">= 1,", "=> 1", "99999999999999999999999"] {
            assert!(VersionConstraint::parse(bad).is_none(), "{bad}");
        }
    }
}
