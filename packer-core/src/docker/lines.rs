//! Lines of a text that an engine tells in pieces, which may end anywhere: a secret in it is only found in one piece.

/// The longest line that is kept until its end comes; a longer one is not shown, since a part of a secret might be where it
/// would be cut.
const LONGEST: usize = 1 << 20;

/// What came behind the last line end.
#[derive(Debug, Default)]
pub(super) struct Lines {
    pending: Vec<u8>,
    /// Whether the pending line was too long, and is dropped up to its end.
    dropping: bool,
}

impl Lines {
    /// The lines that end with this piece; empty ones are left out.
    pub(super) fn push(&mut self, piece: &[u8]) -> Vec<String> {
        let mut found = Vec::new();
        for part in piece.split_inclusive(|byte| *byte == b'\n') {
            let whole = part.ends_with(b"\n");
            let text = if whole { &part[..part.len() - 1] } else { part };
            if !self.dropping && self.pending.len() + text.len() > LONGEST {
                self.drop_line();
            }
            if !self.dropping {
                self.pending.extend_from_slice(text);
            }
            if whole {
                found.extend(self.end());
            }
        }
        found
    }

    /// The last line, where no line end came behind it.
    pub(super) fn end(&mut self) -> Option<String> {
        let pending = std::mem::take(&mut self.pending);
        if std::mem::take(&mut self.dropping) {
            return Some(format!("(a line of more than {LONGEST} bytes)"));
        }
        let line = String::from_utf8_lossy(&pending);
        let line = line.strip_suffix('\r').unwrap_or(&line);
        (!line.trim().is_empty()).then(|| line.to_owned())
    }

    /// How many bytes wait for the end of their line.
    #[cfg(feature = "docker-buildkit")]
    pub(super) fn pending(&self) -> usize {
        self.pending.len()
    }

    /// Shows nothing of the line that has come so far, nor of the rest of it.
    pub(super) fn drop_line(&mut self) {
        self.pending = Vec::new();
        self.dropping = true;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_line_is_whole_however_it_comes() {
        let mut lines = Lines::default();
        let text = "one\r\n\n two é\nthree";
        for size in [1, 2, 5, 100] {
            let mut found: Vec<String> =
                text.as_bytes().chunks(size).flat_map(|piece| lines.push(piece)).collect();
            found.extend(lines.end());
            assert_eq!(found, ["one", " two é", "three"], "{size}");
        }
        assert!(lines.end().is_none());
    }

    #[test]
    fn a_line_without_an_end_costs_bounded_memory_and_shows_no_part_of_it() {
        let mut lines = Lines::default();
        for _ in 0..100 {
            assert!(lines.push(&[b'x'; 100_000]).is_empty());
            assert!(lines.pending.capacity() <= 4 * LONGEST);
        }
        assert_eq!(lines.push(b"xx\nnext\n"), ["(a line of more than 1048576 bytes)", "next"]);
    }
}
