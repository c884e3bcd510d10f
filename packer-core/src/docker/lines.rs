//! Lines of a text that an engine tells in pieces, which may end anywhere: a secret in it is only found in one piece.

/// What came behind the last line end.
#[derive(Debug, Default)]
pub(super) struct Lines(Vec<u8>);

impl Lines {
    /// The lines that end with this piece; empty ones are left out.
    pub(super) fn push(&mut self, piece: &[u8]) -> Vec<String> {
        let Some(end) = piece.iter().rposition(|byte| *byte == b'\n') else {
            self.0.extend_from_slice(piece);
            return Vec::new();
        };
        self.0.extend_from_slice(&piece[..end]);
        let whole = std::mem::replace(&mut self.0, piece[end + 1..].to_vec());
        lines(&whole)
    }

    /// The last line, where no line end came behind it.
    pub(super) fn end(&mut self) -> Vec<String> {
        lines(&std::mem::take(&mut self.0))
    }
}

fn lines(text: &[u8]) -> Vec<String> {
    let text = String::from_utf8_lossy(text);
    let lines = text.split('\n').map(|line| line.strip_suffix('\r').unwrap_or(line));
    lines.filter(|line| !line.trim().is_empty()).map(str::to_owned).collect()
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
        assert!(lines.end().is_empty());
    }
}
