//! Regular expressions as RE2 and Go read them, on top of the `regex` crate.
//!
//! Both search the same way; what differs is in the pattern. There `\w`, `\d`, `\s` and `\b` know ASCII alone, a `{` that
//! begins no repetition stands for itself, classes do not nest, a repetition cannot be repeated, and `\Q…\E` quotes.

use regex::Regex;

/// The highest count in `{n,m}`.
const MAX_REPEAT: u32 = 1000;

/// Compiles a pattern.
///
/// # Errors
/// What is wrong with it.
pub(super) fn compile(pattern: &str) -> Result<Regex, String> {
    let translated = Translator { rest: pattern, out: String::with_capacity(pattern.len()) }.run()?;
    Regex::new(&translated).map_err(|e| {
        // The last line says what is wrong; those before it repeat the pattern.
        let detail = e.to_string();
        detail.lines().last().unwrap_or_default().trim_start_matches("error: ").to_owned()
    })
}

struct Translator<'p> {
    rest: &'p str,
    out: String,
}

impl<'p> Translator<'p> {
    fn run(mut self) -> Result<String, String> {
        // Whether what was read last is a repetition.
        let mut repeated = false;
        while let Some(c) = self.next() {
            let repeats = match c {
                '*' | '+' | '?' => {
                    self.out.push(c);
                    true
                }
                '{' => self.counts()?,
                '}' => self.push("\\}"),
                '[' => self.class()?,
                '(' => self.group()?,
                '\\' => self.escape()?,
                c => {
                    self.out.push(c);
                    false
                }
            };
            if repeats {
                if repeated {
                    return Err("invalid nested repetition operator".to_owned());
                }
                if self.take("?") {
                    self.out.push('?');
                }
            }
            repeated = repeats;
        }
        Ok(self.out)
    }

    fn next(&mut self) -> Option<char> {
        let c = self.rest.chars().next()?;
        self.rest = &self.rest[c.len_utf8()..];
        Some(c)
    }

    fn take(&mut self, text: &str) -> bool {
        let found = self.rest.strip_prefix(text);
        self.rest = found.unwrap_or(self.rest);
        found.is_some()
    }

    /// Writes what is no repetition.
    fn push(&mut self, text: &str) -> bool {
        self.out.push_str(text);
        false
    }

    /// `{n}`, `{n,}` or `{n,m}`, behind its brace; any other brace stands for itself.
    fn counts(&mut self) -> Result<bool, String> {
        let end = self.rest.find('}').unwrap_or(0);
        let inside = &self.rest[..end];
        let (least, most) = inside.split_once(',').unwrap_or((inside, inside));
        let digits = |s: &str| s.bytes().all(|b| b.is_ascii_digit());
        if least.is_empty() || !digits(least) || !digits(most) {
            return Ok(self.push("\\{"));
        }
        let too_many = |s: &str| !s.is_empty() && s.parse::<u32>().map_or(true, |n| n > MAX_REPEAT);
        if too_many(least) || too_many(most) {
            return Err(format!("invalid repeat count in {{{inside}}}"));
        }
        self.rest = &self.rest[end + 1..];
        self.out.push_str(&format!("{{{inside}}}"));
        Ok(true)
    }

    /// A group, behind its parenthesis: all but its beginning is read like everything else.
    fn group(&mut self) -> Result<bool, String> {
        self.out.push('(');
        if !self.rest.starts_with('?') {
            return Ok(false);
        }
        for named in ["?P<", "?<"] {
            if self.take(named) {
                return Ok(self.push("?P<"));
            }
        }
        let end = self.rest.find([':', ')']).ok_or("missing argument to group or flags")?;
        let flags = &self.rest[..end];
        if !flags.chars().skip(1).all(|c| matches!(c, 'i' | 'm' | 's' | 'U' | '-')) {
            return Err(format!("invalid or unsupported Perl syntax: ({flags}"));
        }
        self.rest = &self.rest[end..];
        self.out.push_str(flags);
        if self.take(")") {
            self.out.push(')');
        }
        Ok(false)
    }

    /// An escape outside of a class, behind its backslash.
    fn escape(&mut self) -> Result<bool, String> {
        let c = self.next().ok_or("trailing backslash at end of expression")?;
        Ok(match c {
            'Q' => {
                let (quoted, rest) = self.rest.split_once("\\E").unwrap_or((self.rest, ""));
                self.rest = rest;
                self.push(&regex::escape(quoted))
            }
            'A' | 'z' => self.push(&format!("\\{c}")),
            'b' => self.push(r"(?-u:\b)"),
            // Its ASCII form could match within a character, which the crate does not allow.
            'B' => self.push(r"\B"),
            'd' | 's' | 'w' => self.push(&format!("[{}]", ascii_set(c))),
            'D' | 'S' | 'W' => self.push(&format!("[^{}]", ascii_set(c))),
            'p' | 'P' => self.property(c)?,
            c => {
                let c = self.escaped_char(c)?;
                self.push(&regex::escape(c.encode_utf8(&mut [0; 4])))
            }
        })
    }

    /// `\pL`, `\p{Greek}`, `\p{^Greek}`, behind the letter.
    fn property(&mut self, letter: char) -> Result<bool, String> {
        let negated = letter == 'P';
        let name = if self.take("{") {
            let (name, rest) = self.rest.split_once('}').ok_or("invalid character class range")?;
            self.rest = rest;
            name.to_owned()
        } else {
            self.next().ok_or("invalid character class range")?.to_string()
        };
        let (name, negated) = name.strip_prefix('^').map_or((&*name, negated), |name| (name, !negated));
        // What the crate has beyond names of categories and scripts is not RE2's.
        if !name.chars().all(|c| c.is_ascii_alphanumeric() || c == '_') {
            return Err("invalid character class range".to_owned());
        }
        let name = if name == "Any" { "any" } else { name };
        Ok(self.push(&format!("\\{}{{{name}}}", if negated { 'P' } else { 'p' })))
    }

    /// The character that an escape stands for, behind its first character.
    fn escaped_char(&mut self, c: char) -> Result<char, String> {
        let invalid = || format!("invalid escape sequence in \\{c}");
        match c {
            'a' => Ok('\x07'),
            'f' => Ok('\x0c'),
            'n' => Ok('\n'),
            'r' => Ok('\r'),
            't' => Ok('\t'),
            'v' => Ok('\x0b'),
            'x' => {
                let digits = if self.take("{") {
                    let (digits, rest) = self.rest.split_once('}').ok_or_else(invalid)?;
                    self.rest = rest;
                    digits
                } else {
                    let (digits, rest) = self.rest.split_at_checked(2).ok_or_else(invalid)?;
                    self.rest = rest;
                    digits
                };
                let hex = digits.bytes().all(|b| b.is_ascii_hexdigit());
                u32::from_str_radix(digits, 16)
                    .ok()
                    .filter(|_| hex)
                    .and_then(char::from_u32)
                    .ok_or_else(invalid)
            }
            '0'..='7' => {
                let more = self.rest.bytes().take(2).take_while(|b| (b'0'..=b'7').contains(b)).count();
                // One digit would refer to a group, which cannot be searched for.
                if c != '0' && more == 0 {
                    return Err(invalid());
                }
                let digits = format!("{c}{}", &self.rest[..more]);
                self.rest = &self.rest[more..];
                u32::from_str_radix(&digits, 8).ok().and_then(char::from_u32).ok_or_else(invalid)
            }
            c if c.is_ascii() && !c.is_ascii_alphanumeric() => Ok(c),
            _ => Err(invalid()),
        }
    }

    /// A class, behind its bracket.
    fn class(&mut self) -> Result<bool, String> {
        self.out.push('[');
        if self.take("^") {
            self.out.push('^');
        }
        let mut first = true;
        loop {
            if !first && self.take("]") {
                return Ok(self.push("]"));
            }
            first = false;
            if let Some(end) = self.rest.strip_prefix("[:").and_then(|rest| rest.find(":]")) {
                let (name, rest) = self.rest.split_at(end + 4);
                self.rest = rest;
                self.out.push_str(name);
                continue;
            }
            if self.class_set()? {
                continue;
            }
            let low = self.class_char()?;
            push_class_char(low, &mut self.out);
            if self.rest.starts_with('-') && !self.rest.starts_with("-]") {
                self.take("-");
                let high = self.class_char()?;
                self.out.push('-');
                push_class_char(high, &mut self.out);
            }
        }
    }

    /// `\d` and its like within a class, where one follows.
    fn class_set(&mut self) -> Result<bool, String> {
        let Some(c) = self.rest.strip_prefix('\\').and_then(|rest| rest.chars().next()) else {
            return Ok(false);
        };
        if !matches!(c, 'd' | 's' | 'w' | 'D' | 'S' | 'W' | 'p' | 'P') {
            return Ok(false);
        }
        self.rest = &self.rest[2..];
        match c {
            'd' | 's' | 'w' => self.push(ascii_set(c)),
            'p' | 'P' => self.property(c)?,
            c => self.push(&format!("[^{}]", ascii_set(c))),
        };
        Ok(true)
    }

    fn class_char(&mut self) -> Result<char, String> {
        let missing = "missing closing ]";
        match self.next().ok_or(missing)? {
            '\\' => {
                let c = self.next().ok_or(missing)?;
                self.escaped_char(c)
            }
            c => Ok(c),
        }
    }
}

/// What `\d`, `\s` and `\w` (or their capitals) are made of, for use in a class.
fn ascii_set(letter: char) -> &'static str {
    match letter.to_ascii_lowercase() {
        'd' => "0-9",
        's' => r"\t\n\x0c\r ",
        _ => "0-9A-Za-z_",
    }
}

/// Writes a character of a class so that it means nothing else.
fn push_class_char(c: char, out: &mut String) {
    if c.is_ascii_punctuation() && !matches!(c, '<' | '>') {
        out.push('\\');
    }
    out.push(c);
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn patterns_mean_what_they_mean_to_re2() {
        for (pattern, text, want) in [
            (r"\b\w+\b", "naïve", Some("na")),
            (r"[\w.-]+", "ï-a.b", Some("-a.b")),
            (r"[^\W]+", "-ab", Some("ab")),
            (r"\d+", "٣4", Some("4")),
            (r"\Qa.b\E+", "axb a.bb", Some("a.bb")),
            (r"a{,2}{", "a{,2}{", Some("a{,2}{")),
            (r"a{2}", "aaa", Some("aa")),
            (r"x{", "x{", Some("x{")),
            (r"[[]+[]a]", "[[]", Some("[[]")),
            (r"[a&&b~~-]+", "&~-b", Some("&~-b")),
            (r"[[:alpha:]x-z]+", "1ab", Some("ab")),
            (r"\<\/\x41\x{1F600}\101", "</A😀A", Some("</A😀A")),
            (r"\p{^Greek}\pL", "λab", Some("ab")),
            (r"(?<y>\d)(?i:A)(?s).", "1a\n", Some("1a\n")),
            (r"(?U)a+", "aaa", Some("a")),
            (r"é+?$", "éé", Some("éé")),
            (r"]}-", "]}-", Some("]}-")),
            (r"z", "a", None),
        ] {
            let found = compile(pattern).unwrap_or_else(|e| panic!("{pattern}: {e}"));
            assert_eq!(found.find(text).map(|m| m.as_str()), want, "{pattern}");
        }
        for pattern in [
            "a++",
            "a**",
            "a*??",
            "a{2}{3}",
            "a{1001}",
            r"(a)\1",
            r"\C",
            r"\E",
            r"\é",
            "(",
            ")",
            "[",
            "[a",
            "[z-a]",
            "*",
            "(?x)a",
            "(?P<a",
            r"[\b]",
            r"\",
            "(?=a)",
            r"\p{Greek",
            r"\xg0",
            r"\x{110000}",
            "(?",
        ] {
            assert!(compile(pattern).is_err(), "{pattern}");
        }
    }
}
