//! Quoting of strings as Go's `%q` does it.

use unicode_normalization::char::is_combining_mark;

/// The text in double quotes, with everything that does not print escaped: `\n`, `\x7f`, `\u00a0`.
pub fn quote(text: &str) -> String {
    let mut out = String::with_capacity(text.len() + 2);
    out.push('"');
    for c in text.chars() {
        match c {
            '"' => out.push_str("\\\""),
            '\\' => out.push_str("\\\\"),
            '\x07' => out.push_str("\\a"),
            '\x08' => out.push_str("\\b"),
            '\x0c' => out.push_str("\\f"),
            '\n' => out.push_str("\\n"),
            '\r' => out.push_str("\\r"),
            '\t' => out.push_str("\\t"),
            '\x0b' => out.push_str("\\v"),
            c if is_printable(c) => out.push(c),
            c if c < ' ' || c == '\x7f' => out.push_str(&format!("\\x{:02x}", c as u32)),
            c if (c as u32) < 0x10000 => out.push_str(&format!("\\u{:04x}", c as u32)),
            c => out.push_str(&format!("\\U{:08x}", c as u32)),
        }
    }
    out.push('"');
    out
}

/// Whether the text is a name of the language: a letter or `_`, then letters, digits, `_` and `-`.
pub fn is_identifier(text: &str) -> bool {
    let mut chars = text.chars();
    chars.next().is_some_and(|c| c == '_' || unicode_ident::is_xid_start(c))
        && chars.all(|c| c == '-' || unicode_ident::is_xid_continue(c))
}

/// Letters, marks, numbers, punctuation, symbols and the ASCII space.
pub(crate) fn is_printable(c: char) -> bool {
    if c.is_ascii() {
        return c == ' ' || c.is_ascii_graphic();
    }
    // The standard library escapes what does not print: other spaces, controls, format characters and what is
    // not assigned. It also escapes marks that extend a cluster, which print all the same.
    is_combining_mark(c) || !matches!(c.escape_debug().next(), Some('\\'))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn quotes_like_go() {
        for (text, want) in [
            ("plain é <&> ${x}", "\"plain é <&> ${x}\""),
            ("a\"b\\c", r#""a\"b\\c""#),
            ("\u{7}\u{8}\u{c}\n\r\t\u{b}\u{0}\u{7f}", r#""\a\b\f\n\r\t\v\x00\x7f""#),
            ("\u{a0}\u{200d}\u{2028}\u{feff}", r#""\u00a0\u200d\u2028\ufeff""#),
            ("\u{301}x\u{1f600}\u{e0001}", "\"\u{301}x\u{1f600}\\U000e0001\""),
        ] {
            assert_eq!(quote(text), want);
        }
    }
}
