//! Texts of others before a terminal: what would give it orders is shown instead.

use std::borrow::Cow;
use std::fmt::Write as _;
use std::io::{self, Write};

/// The text as a terminal may have it: line ends, tabs and colours (`ESC [ … m`) stay, every other control character is
/// written out (`^[`, `^G`, `<U+009B>`). What a machine prints could else set the clipboard and the title of
/// the window, answer for the user, or hide lines.
///
/// ```
/// use packer_core::event::visible;
/// assert_eq!(visible("\u{1b}[31mred\u{1b}[0m \u{1b}]0;title\u{7}"), "\u{1b}[31mred\u{1b}[0m ^[]0;title^G");
/// ```
pub fn visible(text: &str) -> Cow<'_, str> {
    let Some(first) = text.find(char::is_control) else { return Cow::Borrowed(text) };
    let mut out = String::with_capacity(text.len() + 16);
    out.push_str(&text[..first]);
    let mut rest = &text[first..];
    while let Some(c) = rest.chars().next() {
        let length = match c {
            '\x1b' => color(rest),
            '\r' => usize::from(rest.starts_with("\r\n")),
            '\n' | '\t' => 1,
            c if !c.is_control() => rest.find(char::is_control).unwrap_or(rest.len()),
            _ => 0,
        };
        if length > 0 {
            out.push_str(&rest[..length]);
            rest = &rest[length..];
        } else {
            spell(c, &mut out);
            rest = &rest[c.len_utf8()..];
        }
    }
    Cow::Owned(out)
}

/// How long the colour at the beginning of a text is; 0 where it is none.
fn color(text: &str) -> usize {
    let Some(parameters) = text.strip_prefix("\x1b[") else { return 0 };
    let end = parameters.find(|c: char| !(c.is_ascii_digit() || c == ';' || c == ':'));
    end.filter(|end| parameters[*end..].starts_with('m')).map_or(0, |end| "\x1b[".len() + end + "m".len())
}

/// Writes out a control character.
fn spell(c: char, out: &mut String) {
    match u8::try_from(c) {
        Ok(byte @ ..0x20) => out.extend(['^', char::from(byte + 0x40)]),
        Ok(0x7f) => out.push_str("^?"),
        // Writing to a text does not fail.
        _ => drop(write!(out, "<U+{:04X}>", u32::from(c))),
    }
}

/// A writer for a terminal behind which stands another writer: texts come out as [`visible`] has them, bytes that are no
/// UTF-8 as replacement characters. Each write is a text of its own, so whoever writes writes whole texts.
///
/// ```
/// use std::io::Write;
/// let mut shown = Vec::new();
/// packer_core::event::ForTerminal::new(&mut shown).write_all(b"\x07ding\n").unwrap();
/// assert_eq!(shown, b"^Gding\n");
/// ```
#[derive(Debug)]
pub struct ForTerminal<W>(W);

impl<W: Write> ForTerminal<W> {
    /// Writes into `writer`.
    pub fn new(writer: W) -> Self {
        Self(writer)
    }
}

impl<W: Write> Write for ForTerminal<W> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.write_all(bytes)?;
        Ok(bytes.len())
    }

    fn write_all(&mut self, bytes: &[u8]) -> io::Result<()> {
        self.0.write_all(visible(&String::from_utf8_lossy(bytes)).as_bytes())
    }

    fn flush(&mut self) -> io::Result<()> {
        self.0.flush()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn colours_stay_and_orders_are_written_out() {
        for (text, shown) in [
            ("", ""),
            ("größe 数\tx\ny\r\n", "größe 数\tx\ny\r\n"),
            ("\x1b[m\x1b[1;38:2::1:2:3m\x1b[0m", "\x1b[m\x1b[1;38:2::1:2:3m\x1b[0m"),
            ("a\rb\r", "a^Mb^M"),
            ("\x07\x08\x00\x7f", "^G^H^@^?"),
            ("\x1b]52;c;aGk=\x07", "^[]52;c;aGk=^G"),
            ("\x1b]8;;http://x\x1b\\", "^[]8;;http://x^[\\"),
            ("\x1b[2J\x1b[1;1H\x1b[?1049h\x1b[6n\x1bc", "^[[2J^[[1;1H^[[?1049h^[[6n^[c"),
            ("\x1b[31", "^[[31"),
            ("\x1b[>4m\x1b[1 m", "^[[>4m^[[1 m"),
            ("\x1b\x1b[1m", "^[\x1b[1m"),
            ("\u{9b}2J\u{90}q\u{9c}\u{85}", "<U+009B>2J<U+0090>q<U+009C><U+0085>"),
        ] {
            assert_eq!(visible(text), shown, "{text:?}");
        }
        let clean = "clean";
        assert!(matches!(visible(clean), Cow::Borrowed(_)));
    }

    #[test]
    fn a_writer_makes_each_text_harmless() {
        let mut out = Vec::new();
        let mut writer = ForTerminal::new(&mut out);
        writer.write_all(b"one\x07\n").unwrap();
        assert_eq!(writer.write(b"two\xff\x9b\x1b[2J").unwrap(), 9);
        writer.flush().unwrap();
        assert_eq!(String::from_utf8(out).unwrap(), "one^G\ntwo\u{fffd}\u{fffd}^[[2J");
    }
}
