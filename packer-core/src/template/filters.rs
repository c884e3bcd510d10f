//! `only` and `except`: globs over build names.

use regex::Regex;

use crate::diagnostic::{Diagnostic, Diagnostics};

/// The patterns of one option.
#[derive(Debug, Clone, Default)]
pub(super) struct Patterns(Vec<Regex>);

impl Patterns {
    /// Reads patterns; `option` is the name for messages.
    pub(super) fn parse(option: &str, patterns: &[String]) -> Result<Self, Diagnostics> {
        let read = |p: &String| {
            let wrong = |e| Diagnostic::error(format!("Invalid -{option} pattern {p}: {e}"));
            glob(p).map_err(|e| Diagnostics::from(wrong(e)))
        };
        Ok(Self(patterns.iter().map(read).collect::<Result<_, _>>()?))
    }

    pub(super) fn len(&self) -> usize {
        self.0.len()
    }

    pub(super) fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// Whether any pattern matches the whole name.
    pub(super) fn matches(&self, name: &str) -> bool {
        self.0.iter().any(|p| p.is_match(name))
    }
}

/// A glob in which nothing separates: `*` any run, `?` one character, `[abc]`, `[!a-z]`, `{a,b}`, `\` before what is meant
/// as it is.
fn glob(pattern: &str) -> Result<Regex, String> {
    let mut regex = String::from(r"(?s)\A");
    let mut depth = 0_usize;
    let closing = unclosed_braces(pattern);
    let mut chars = pattern.char_indices();
    while let Some((at, c)) = chars.next() {
        match c {
            '*' if regex.ends_with(".*") => {}
            '*' => regex.push_str(".*"),
            '?' => regex.push('.'),
            '[' => {
                let mut class = String::new();
                let mut closed = false;
                while let Some((_, c)) = chars.next() {
                    match c {
                        ']' => {
                            closed = true;
                            break;
                        }
                        '!' if class.is_empty() => class.push('^'),
                        '-' if !class.is_empty() => class.push('-'),
                        '\\' => escape_into(&mut class, chars.next().ok_or("unexpected end of input")?.1),
                        c => escape_into(&mut class, c),
                    }
                }
                if !closed {
                    return Err("unexpected end of input".into());
                }
                if matches!(class.as_str(), "" | "^") {
                    return Err("a character class names no character".into());
                }
                regex.push_str(&format!("[{class}]"));
            }
            '{' if !closing.contains(&at) => {
                regex.push_str("(?:");
                depth += 1;
            }
            '}' if depth > 0 => {
                regex.push(')');
                depth -= 1;
            }
            ',' if depth > 0 => regex.push('|'),
            '\\' => {
                let c = chars.next().ok_or("unexpected end of input")?.1;
                escape_into(&mut regex, c);
            }
            c => escape_into(&mut regex, c),
        }
    }
    regex.push_str(r"\z");
    Regex::new(&regex).map_err(|e| match e {
        regex::Error::CompiledTooBig(_) => "the pattern is too large".into(),
        _ => "a character range is upside down or braces are nested too deep".into(),
    })
}

/// Adds a character as itself, in a class as well as outside of one.
fn escape_into(regex: &mut String, c: char) {
    if c.is_ascii()
        && !c.is_ascii_alphanumeric()
        && !c.is_ascii_whitespace()
        && !c.is_ascii_control()
        && c != '<'
        && c != '>'
    {
        regex.push('\\');
    }
    regex.push(c);
}

/// Where the braces stand that nothing closes: they are plain characters.
fn unclosed_braces(pattern: &str) -> Vec<usize> {
    let mut open = Vec::new();
    let mut escaped = false;
    let mut class = false;
    for (at, c) in pattern.char_indices() {
        match c {
            _ if escaped => escaped = false,
            '\\' => escaped = true,
            ']' => class = false,
            _ if class => {}
            '[' => class = true,
            '{' => open.push(at),
            '}' => drop(open.pop()),
            _ => {}
        }
    }
    open
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn globs() {
        for (pattern, name, matches) in [
            ("null.one", "null.one", true),
            ("null.one", "bb.null.one", false),
            ("*.null.one", "bb.null.one", true),
            ("*a", "x.file.a", true),
            ("prod-?.*", "prod-10.null.n", false),
            ("prod-?.*", "prod-é.null.n", true),
            ("null.[ab]", "null.b", true),
            ("null.[!a-c]", "null.b", false),
            ("null.[!a-c]", "null.d", true),
            ("{file,null}.{a,b{c,d}}", "null.bd", true),
            ("{file,null}.{a,b{c,d}}", "null.b", false),
            ("null.{a", "null.{a", true),
            (r"a\*", "a*", true),
            (r"a\*", "ab", false),
            ("**", "", true),
            ("a.b", "axb", false),
            ("my build*", "my build: X/1.null.n", true),
            ("null.N", "null.n", false),
        ] {
            assert_eq!(
                glob(pattern).unwrap_or_else(|e| panic!("{pattern}: {e}")).is_match(name),
                matches,
                "{pattern} on {name}"
            );
        }
        for bad in ["null.[", "null.[a", "[", "a\\", "[]", "[z-a]"] {
            assert!(glob(bad).is_err(), "{bad}");
        }
    }
}
