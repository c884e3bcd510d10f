//! Texts that are too long to be shown as a whole, cut where no part of a secret shows, be it known by then or not: a text
//! that is registered is looked for line by line.

use std::borrow::Cow;

/// The first lines of a text, as many as fit into so many bytes.
///
/// ```
/// use packer_core::secrets::first_lines;
/// assert_eq!(first_lines("one\ntwo\nthree", 9), "one\ntwo");
/// assert_eq!(first_lines("one\ntwo", 9), "one\ntwo");
/// assert_eq!(first_lines("a long line", 9), "(a line of more than 9 bytes)");
/// ```
pub fn first_lines(text: &str, most: usize) -> Cow<'_, str> {
    if text.len() <= most {
        return Cow::Borrowed(text);
    }
    let beginning = &text[..text.floor_char_boundary(most)];
    match beginning.rfind(['\n', '\r']) {
        Some(end) => Cow::Borrowed(&beginning[..end]),
        None => too_long(most),
    }
}

/// The last lines of a text, as many as fit into so many bytes.
///
/// ```
/// use packer_core::secrets::last_lines;
/// assert_eq!(last_lines("one\ntwo\nthree", 9), "two\nthree");
/// assert_eq!(last_lines("a long line", 9), "(a line of more than 9 bytes)");
/// ```
pub fn last_lines(text: &str, most: usize) -> Cow<'_, str> {
    // The line end before the first line that fits is not shown.
    let Some(start) = text.len().checked_sub(most + 1) else { return Cow::Borrowed(text) };
    let ending = &text[text.ceil_char_boundary(start)..];
    match ending.trim_end_matches(['\n', '\r']).find(['\n', '\r']) {
        Some(end) => Cow::Borrowed(&ending[end + 1..]),
        None => too_long(most),
    }
}

fn too_long(most: usize) -> Cow<'static, str> {
    Cow::Owned(format!("(a line of more than {most} bytes)"))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::secrets::Secrets;

    #[test]
    fn no_part_of_a_secret_is_left_wherever_it_is_cut() {
        let secret = "S3cr3t with spaces, ü";
        let text = format!("begin\n{secret} and {secret}\r\n{secret}\nend {secret}");
        let secrets = Secrets::new();
        secrets.add(secret);
        for most in 0..text.len() + 2 {
            for shown in [first_lines(&text, most), last_lines(&text, most)] {
                let scrubbed = secrets.scrub(&*shown).replace("<sensitive>", "");
                for word in ["S3c", "cr3t", "with", "spaces", "ü"] {
                    assert!(!scrubbed.contains(word), "{most}: {scrubbed}");
                }
                assert!(shown.len() <= most.max(40));
            }
        }
        assert_eq!(first_lines(&text, text.len()), text);
        assert_eq!(last_lines(&text, text.len()), text);
        assert_eq!(last_lines("a\nb\n", 2), "b\n");
    }
}
