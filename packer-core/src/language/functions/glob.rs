//! The patterns of `fileset`, and the files that match one.

use std::collections::{BTreeSet, HashSet};
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use super::{FileKind, Files};

/// More alternatives than anyone writes; `{a,b}{a,b}…` doubles with each pair.
const MAX_ALTERNATIVES: usize = 1000;

/// A pattern: `*` and `?` within a name, `**` for any folders, `[a-z]`, `[^a]`, `{a,b}`; `\` takes the meaning off
/// the next character (except on Windows, where it separates names).
pub(super) struct Pattern(Vec<Vec<Part>>);

/// How many names a search looks at, each counted as often as its path has names: what lies deep costs more. A tree
/// larger than that is searched by mistake: `fileset("/", "**")`, or links from each of many folders to all others.
const MOST_NAMES: usize = 1 << 21;

/// What one name on the way to a file must be like.
#[derive(Clone, Debug)]
enum Part {
    Parent,
    /// Any number of folders.
    Folders,
    Literal(String),
    Name(Vec<Token>),
}

#[derive(Clone, Debug)]
enum Token {
    Char(char),
    AnyChar,
    AnyRun,
    Class { negated: bool, ranges: Vec<(char, char)> },
}

/// The pattern is not well formed.
#[derive(Debug, thiserror::Error)]
#[error("syntax error in pattern")]
pub(super) struct BadPattern;

const ESCAPE: Option<char> = if cfg!(windows) { None } else { Some('\\') };

impl Pattern {
    pub(super) fn parse(pattern: &str) -> Result<Self, BadPattern> {
        let plain = if cfg!(windows) { pattern.replace('\\', "/") } else { pattern.to_owned() };
        expand(&plain)?.iter().map(|p| parse_parts(p)).collect::<Result<_, _>>().map(Self)
    }

    /// The regular files below `root` that match, as paths relative to it with `/`, sorted. A folder that does not
    /// exist has none.
    pub(super) fn files(&self, root: &Path, files: &dyn Files) -> io::Result<BTreeSet<String>> {
        self.at_most(MOST_NAMES, root, files)
    }

    fn at_most(&self, mut names: usize, root: &Path, files: &dyn Files) -> io::Result<BTreeSet<String>> {
        let mut found = BTreeSet::new();
        for parts in &self.0 {
            Walk { files, parts, found: &mut found, seen: HashSet::new(), names: &mut names }.run(root)?;
        }
        Ok(found)
    }
}

/// Every pattern that `{a,b}` stands for.
fn expand(pattern: &str) -> Result<Vec<String>, BadPattern> {
    let mut done = Vec::new();
    let mut pending = vec![pattern.to_owned()];
    while let Some(next) = pending.pop() {
        match find_braces(&next)? {
            None => done.push(next),
            Some((start, end, alternatives)) => {
                for alternative in alternatives {
                    pending.push(format!("{}{alternative}{}", &next[..start], &next[end..]));
                }
            }
        }
        if done.len() + pending.len() > MAX_ALTERNATIVES {
            return Err(BadPattern);
        }
    }
    Ok(done)
}

/// Where the first `{…}` begins and ends and what is between its commas.
#[expect(clippy::type_complexity, reason = "used once")]
fn find_braces(pattern: &str) -> Result<Option<(usize, usize, Vec<&str>)>, BadPattern> {
    let mut chars = pattern.char_indices();
    let mut open: Option<usize> = None;
    let (mut depth, mut from) = (0usize, 0);
    let mut alternatives = Vec::new();
    while let Some((i, c)) = chars.next() {
        match c {
            c if Some(c) == ESCAPE => {
                chars.next().ok_or(BadPattern)?;
            }
            '{' => {
                if depth == 0 {
                    open = Some(i);
                    from = i + 1;
                }
                depth += 1;
            }
            ',' if depth == 1 => {
                alternatives.push(&pattern[from..i]);
                from = i + 1;
            }
            '}' if depth == 1 => {
                alternatives.push(&pattern[from..i]);
                return Ok(open.map(|start| (start, i + 1, alternatives)));
            }
            '}' => depth = depth.saturating_sub(1),
            _ => {}
        }
    }
    if open.is_some() { Err(BadPattern) } else { Ok(None) }
}

fn parse_parts(pattern: &str) -> Result<Vec<Part>, BadPattern> {
    let mut parts: Vec<Part> = Vec::new();
    for name in pattern.split('/') {
        match name {
            "" | "." => {}
            // As in a path, a name and a `..` behind it cancel out.
            ".." => match parts.last() {
                None | Some(Part::Parent) => parts.push(Part::Parent),
                Some(_) => {
                    parts.pop();
                }
            },
            "**" if matches!(parts.last(), Some(Part::Folders)) => {}
            "**" => parts.push(Part::Folders),
            name => parts.push(parse_name(name)?),
        }
    }
    Ok(parts)
}

fn parse_name(name: &str) -> Result<Part, BadPattern> {
    let mut tokens = Vec::new();
    let mut chars = name.chars();
    while let Some(c) = chars.next() {
        tokens.push(match c {
            '*' => Token::AnyRun,
            '?' => Token::AnyChar,
            '[' => parse_class(&mut chars)?,
            c if Some(c) == ESCAPE => Token::Char(chars.next().ok_or(BadPattern)?),
            c => Token::Char(c),
        });
    }
    let literal: Option<String> =
        tokens.iter().map(|t| if let Token::Char(c) = t { Some(*c) } else { None }).collect();
    Ok(literal.map_or(Part::Name(tokens), Part::Literal))
}

/// A class, behind its `[`.
fn parse_class(chars: &mut std::str::Chars<'_>) -> Result<Token, BadPattern> {
    let negated = chars.as_str().starts_with('^');
    if negated {
        chars.next();
    }
    let mut ranges = Vec::new();
    loop {
        let low = match chars.next().ok_or(BadPattern)? {
            ']' if !ranges.is_empty() => return Ok(Token::Class { negated, ranges }),
            ']' | '-' => return Err(BadPattern),
            c if Some(c) == ESCAPE => chars.next().ok_or(BadPattern)?,
            c => c,
        };
        let mut high = low;
        if chars.as_str().starts_with('-') {
            chars.next();
            high = match chars.next().ok_or(BadPattern)? {
                ']' | '-' => return Err(BadPattern),
                c if Some(c) == ESCAPE => chars.next().ok_or(BadPattern)?,
                c => c,
            };
        }
        ranges.push((low, high));
    }
}

/// Whether a name matches; time is at most the product of both lengths.
fn matches(tokens: &[Token], name: &str) -> bool {
    let name: Vec<char> = name.chars().collect();
    let (mut t, mut n) = (0, 0);
    // Where to go on when it does not fit: behind the last `*`, which then takes one character more.
    let mut retry: Option<(usize, usize)> = None;
    while n < name.len() {
        match tokens.get(t) {
            Some(Token::AnyRun) => {
                t += 1;
                retry = Some((t, n));
                continue;
            }
            Some(token) if token.matches(name[n]) => {
                t += 1;
                n += 1;
                continue;
            }
            _ => {}
        }
        let Some((token, start)) = retry else { return false };
        retry = Some((token, start + 1));
        (t, n) = (token, start + 1);
    }
    tokens.iter().skip(t).all(|t| matches!(t, Token::AnyRun))
}

impl Token {
    fn matches(&self, c: char) -> bool {
        match self {
            Self::Char(own) => *own == c,
            Self::AnyChar => true,
            Self::AnyRun => false,
            Self::Class { negated, ranges } => {
                ranges.iter().any(|(low, high)| (*low..=*high).contains(&c)) != *negated
            }
        }
    }
}

/// The search for one pattern.
struct Walk<'a> {
    files: &'a dyn Files,
    parts: &'a [Part],
    found: &'a mut BTreeSet<String>,
    /// Folder and part that were looked at already: several `**` would come to them again and again.
    seen: HashSet<(String, usize)>,
    /// How many names may still be looked at; see [`MOST_NAMES`].
    names: &'a mut usize,
}

/// A folder on the way down, by its real path.
struct Ancestor {
    path: PathBuf,
    above: Option<Arc<Self>>,
}

impl Walk<'_> {
    fn run(&mut self, root: &Path) -> io::Result<()> {
        let mut pending: Vec<(String, usize, Option<Arc<Ancestor>>)> = vec![(String::new(), 0, None)];
        while let Some((shown, at, above)) = pending.pop() {
            let Some(part) = self.parts.get(at) else { continue };
            if !self.seen.insert((shown.clone(), at)) {
                continue;
            }
            let folder = root.join(&shown);
            let depth = if shown.is_empty() { 1 } else { shown.matches('/').count() + 2 };
            let is_last = at + 1 == self.parts.len();
            let names = match part {
                Part::Parent => {
                    pending.push((join(&shown, ".."), at + 1, above));
                    continue;
                }
                Part::Literal(name) => vec![name.clone()],
                Part::Folders | Part::Name(_) => match self.list(&folder)? {
                    Some(names) => names,
                    None => continue,
                },
            };
            let above = match part {
                // A link that leads back to a folder above would never end.
                Part::Folders => match self.enter(&folder, above) {
                    Some(entered) => Some(entered),
                    None => continue,
                },
                _ => above,
            };
            for name in names {
                let Some(left) = self.names.checked_sub(depth) else {
                    return Err(io::Error::other("there are too many names to look at"));
                };
                *self.names = left;
                if let Part::Name(tokens) = part
                    && !matches(tokens, &name)
                {
                    continue;
                }
                let path = join(&shown, &name);
                let kind = match self.files.kind(&root.join(&path)) {
                    Ok(kind) => kind,
                    // What may not be seen must not seem to be missing.
                    Err(e) if e.kind() == io::ErrorKind::PermissionDenied => return Err(e),
                    Err(_) => continue,
                };
                match (kind, part) {
                    (FileKind::File, _) if is_last => {
                        self.found.insert(relative(root, &path));
                    }
                    (FileKind::Directory, Part::Folders) => pending.push((path, at, above.clone())),
                    (FileKind::Directory, _) if !is_last => pending.push((path, at + 1, above.clone())),
                    _ => {}
                }
            }
            if matches!(part, Part::Folders) && !is_last {
                // `**` also stands for no folder at all.
                pending.push((shown, at + 1, above));
            }
        }
        Ok(())
    }

    /// The names in a folder; `None` where it is none.
    fn list(&self, folder: &Path) -> io::Result<Option<Vec<String>>> {
        match self.files.list(folder) {
            Ok(names) => Ok(Some(names)),
            Err(e) if matches!(e.kind(), io::ErrorKind::NotFound | io::ErrorKind::NotADirectory) => Ok(None),
            Err(e) => Err(e),
        }
    }

    /// The folder as the next ancestor, unless it is one already.
    fn enter(&self, folder: &Path, above: Option<Arc<Ancestor>>) -> Option<Arc<Ancestor>> {
        let path = self.files.canonical(folder).ok()?;
        let mut ancestor = above.as_deref();
        while let Some(a) = ancestor {
            if a.path == path {
                return None;
            }
            ancestor = a.above.as_deref();
        }
        Some(Arc::new(Ancestor { path, above }))
    }
}

fn join(folder: &str, name: &str) -> String {
    if folder.is_empty() { name.to_owned() } else { format!("{folder}/{name}") }
}

/// A path from `root`; where it leads out of it and in again, without that detour.
fn relative(root: &Path, path: &str) -> String {
    let mut outside: Vec<&str> = Vec::new();
    let mut rest = path;
    let mut names = root.components().rev();
    while let Some(next) = rest.strip_prefix("../") {
        rest = next;
        match names.next() {
            Some(std::path::Component::Normal(name)) => outside.push(name.to_str().unwrap_or_default()),
            _ => return path.to_owned(),
        }
    }
    while let Some(name) = outside.last() {
        match rest.strip_prefix(name).and_then(|r| r.strip_prefix('/')) {
            Some(next) if !name.is_empty() => {
                rest = next;
                outside.pop();
            }
            _ => break,
        }
    }
    format!("{}{rest}", "../".repeat(outside.len()))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::language::functions::RealFiles;

    #[test]
    fn names_match() {
        for (pattern, name, want) in [
            ("*.conf", "a.conf", true),
            ("*.conf", ".conf", true),
            ("*a*b*", "xxaxxbxx", true),
            ("*a*b", "xxaxxbxx", false),
            ("?", "é", true),
            ("[a-c]x", "bx", true),
            ("[^a-c]x", "bx", false),
            ("a**", "abc", true),
            ("[]a]", "", false),
        ] {
            let got = match parse_name(pattern) {
                Ok(Part::Name(tokens)) => matches(&tokens, name),
                _ => false,
            };
            assert_eq!(got, want, "{pattern} {name}");
        }
        for bad in ["[", "[a", "[]", "a\\", "{a", "[a-]"] {
            assert!(Pattern::parse(bad).is_err(), "{bad}");
        }
        assert!(Pattern::parse(&"{a,b}".repeat(64)).is_err());
    }

    #[test]
    fn a_tree_that_is_too_large_is_refused() {
        let folder = tempfile::tempdir().unwrap();
        for i in 0..20 {
            std::fs::write(folder.path().join(format!("f{i}")), "").unwrap();
        }
        let all = Pattern::parse("**").unwrap();
        assert_eq!(all.at_most(20, folder.path(), &RealFiles).unwrap().len(), 20);
        let error = all.at_most(19, folder.path(), &RealFiles).unwrap_err().to_string();
        assert!(error.contains("names to look at"), "{error}");
    }

    #[test]
    fn finds_files_and_survives_links_in_a_circle() {
        let folder = tempfile::tempdir().unwrap();
        let root = folder.path();
        for file in ["a.conf", "sub/b.conf", "sub/deep/c.conf", "sub/deep/c.txt"] {
            let path = root.join(file);
            std::fs::create_dir_all(path.parent().unwrap()).unwrap();
            std::fs::write(path, "").unwrap();
        }
        #[cfg(unix)]
        std::os::unix::fs::symlink(root, root.join("sub/circle")).unwrap();
        for (base, pattern, want) in [
            ("", "*.conf", "a.conf"),
            ("", "**/*.conf", "a.conf sub/b.conf sub/deep/c.conf"),
            ("", "**", "a.conf sub/b.conf sub/deep/c.conf sub/deep/c.txt"),
            ("", "**/deep/**/*.{conf,txt}", "sub/deep/c.conf sub/deep/c.txt"),
            ("sub", "../a.conf", "../a.conf"),
            ("sub", "../sub/b.conf", "b.conf"),
            ("", "sub", ""),
            ("", "", ""),
            ("none", "*", ""),
        ] {
            let found = Pattern::parse(pattern).unwrap().files(&root.join(base), &RealFiles).unwrap();
            let found: Vec<&str> =
                found.iter().map(String::as_str).filter(|f| !f.contains("circle")).collect();
            assert_eq!(found.join(" "), want, "{base} {pattern}");
        }
    }
}
