//! Texts that were read, and places in them.

use std::fmt;
use std::ops::Range;
use std::sync::{Arc, OnceLock};

use serde::ser::SerializeStruct;
use serde::{Deserialize, Deserializer, Serialize, Serializer};
use unicode_segmentation::UnicodeSegmentation;

use crate::secrets::Secrets;

/// A piece of text that was read, with its name; shared by everything that points into it.
pub struct SourceFile {
    name: String,
    text: String,
    /// Byte offsets at which lines start; made when a place is first asked for.
    lines: OnceLock<Vec<u32>>,
    /// Where in the whole text the only place lies that points into this part of it; `None` for a whole text.
    excerpt: Option<(Position, Position)>,
}

impl SourceFile {
    /// A text under the name that diagnostics show for it (a path as the user gave it, or `<console-input>`).
    pub fn new(name: impl Into<String>, text: impl Into<String>) -> Arc<Self> {
        Arc::new(Self { name: name.into(), text: text.into(), lines: OnceLock::new(), excerpt: None })
    }

    /// The number of the first line that is there.
    pub(super) fn first_line(&self) -> u32 {
        self.excerpt.as_ref().map_or(1, |(start, _)| start.line)
    }

    /// The name the text was read under.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// The whole text.
    pub fn text(&self) -> &str {
        &self.text
    }

    fn lines(&self) -> &[u32] {
        self.lines.get_or_init(|| {
            let mut starts = vec![0];
            starts.extend(
                self.text.bytes().enumerate().filter(|(_, b)| *b == b'\n').map(|(i, _)| i as u32 + 1),
            );
            starts
        })
    }

    /// Line and column of a byte offset, both from 1; a column is a grapheme cluster, as in HCL.
    pub fn position(&self, offset: u32) -> Position {
        let mut offset = (offset as usize).min(self.text.len());
        while !self.text.is_char_boundary(offset) {
            offset -= 1;
        }
        let lines = self.lines();
        let line = lines.partition_point(|start| *start as usize <= offset) - 1;
        let before = &self.text[lines[line] as usize..offset];
        // Within a line every ASCII character is a cluster of its own; files of one long line are ASCII mostly.
        let column = if before.is_ascii() { before.len() } else { before.graphemes(true).count() } + 1;
        Position {
            line: (line as u32).saturating_add(self.first_line()),
            column: column as u32,
            byte: offset as u32,
        }
    }

    /// The byte of a place that is given by its line (from 0, of those that are there) and column (from 1).
    fn offset(&self, line: u32, column: u32) -> u32 {
        let Some(start) = self.lines().get(line as usize) else { return self.text.len() as u32 };
        let rest = self.text[*start as usize..].split('\n').next().unwrap_or_default();
        let before = rest.graphemes(true).take((column as usize).saturating_sub(1));
        start + before.map(|cluster| cluster.len() as u32).sum::<u32>()
    }

    /// The text of a line (from 1), without its line end; empty where there is no such line.
    pub fn line(&self, line: u32) -> &str {
        let lines = self.lines();
        let Some(index) = line.checked_sub(self.first_line()).map(|index| index as usize) else { return "" };
        let Some(start) = lines.get(index) else { return "" };
        let end = lines.get(index + 1).map_or(self.text.len(), |e| *e as usize);
        self.text[*start as usize..end].trim_end_matches(['\n', '\r'])
    }
}

impl fmt::Debug for SourceFile {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "SourceFile({}, {} bytes)", self.name, self.text.len())
    }
}

/// A point in a text: line and column from 1, byte from 0.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize)]
pub struct Position {
    /// Line, from 1.
    pub line: u32,
    /// Column in grapheme clusters, from 1.
    pub column: u32,
    /// Offset in bytes, from 0.
    pub byte: u32,
}

/// A range of bytes in a text that the holder knows; what syntax trees carry on every node.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
pub struct Span {
    /// First byte.
    pub start: u32,
    /// Byte behind the last.
    pub end: u32,
}

impl Span {
    /// A span from two byte offsets.
    pub const fn new(start: u32, end: u32) -> Self {
        Self { start, end }
    }

    /// The smallest span that holds both.
    pub fn to(self, other: Self) -> Self {
        Self { start: self.start.min(other.start), end: self.end.max(other.end) }
    }

    /// The span as a place in `source`.
    pub fn in_source(self, source: &Arc<SourceFile>) -> Location {
        Location { source: source.clone(), span: self }
    }

    /// The bytes as a range, for slicing.
    pub fn range(self) -> Range<usize> {
        self.start as usize..self.end as usize
    }
}

/// A span together with the text it lies in.
#[derive(Clone)]
pub struct Location {
    source: Arc<SourceFile>,
    span: Span,
}

impl Location {
    /// The text.
    pub fn source(&self) -> &Arc<SourceFile> {
        &self.source
    }

    /// Where in the text.
    pub fn span(&self) -> Span {
        self.span
    }

    /// The name of the file.
    pub fn file(&self) -> &str {
        self.source.name()
    }

    /// Where the span starts.
    pub fn start(&self) -> Position {
        match &self.source.excerpt {
            Some((start, _)) => *start,
            None => self.source.position(self.span.start),
        }
    }

    /// Where the span ends.
    pub fn end(&self) -> Position {
        match &self.source.excerpt {
            Some((_, end)) => *end,
            None => self.source.position(self.span.end),
        }
    }

    /// Takes the secrets out of the text it shows.
    pub(crate) fn mask(&mut self, secrets: &Secrets) {
        if let Some(text) = secrets.mask(self.source.text()) {
            let (name, excerpt) = (self.source.name.clone(), self.source.excerpt);
            self.source = Arc::new(SourceFile { name, text, lines: OnceLock::new(), excerpt });
        }
    }
}

impl PartialEq for Location {
    fn eq(&self, other: &Self) -> bool {
        self.span == other.span && self.source.name() == other.source.name()
    }
}

impl Eq for Location {}

impl fmt::Debug for Location {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

/// `FILE:LINE,COLUMN-COLUMN`, or `FILE:LINE,COLUMN-LINE,COLUMN` over several lines: the form Packer nests in texts.
impl fmt::Display for Location {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (start, end) = (self.start(), self.end());
        write!(f, "{}:{},{}-", self.file(), start.line, start.column)?;
        if end.line != start.line {
            write!(f, "{},", end.line)?;
        }
        write!(f, "{}", end.column)
    }
}

impl Location {
    /// The lines it lies on, the first of them where there are many.
    pub fn snippet(&self) -> String {
        const MOST: u32 = 8;
        let (first, last) = (self.start().line, self.last_line());
        let lines: Vec<&str> =
            (first..=last.min(first.saturating_add(MOST - 1))).map(|line| self.source.line(line)).collect();
        lines.join("\n")
    }

    /// The last line that the place covers; one that ends at the start of a line does not cover it.
    pub(super) fn last_line(&self) -> u32 {
        let (start, end) = (self.start(), self.end());
        if end.column == 1 && end.line > start.line { end.line - 1 } else { end.line }
    }
}

/// `file`, `line`, `column`, `end_line`, `end_column` and `snippet`, the lines it lies on. Read again, it has only those
/// lines as its text, and bytes are counted in them.
impl Serialize for Location {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let (start, end) = (self.start(), self.end());
        let mut s = serializer.serialize_struct("Location", 6)?;
        s.serialize_field("file", self.file())?;
        s.serialize_field("line", &start.line)?;
        s.serialize_field("column", &start.column)?;
        s.serialize_field("end_line", &end.line)?;
        s.serialize_field("end_column", &end.column)?;
        s.serialize_field("snippet", &self.snippet())?;
        s.end()
    }
}

impl<'de> Deserialize<'de> for Location {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        #[derive(Deserialize)]
        struct Written {
            file: String,
            line: u32,
            column: u32,
            end_line: u32,
            end_column: u32,
            snippet: String,
        }
        let Written { file, line, column, end_line, end_column, snippet } =
            Written::deserialize(deserializer)?;
        let part = SourceFile { name: file, text: snippet, lines: OnceLock::new(), excerpt: None };
        let start = part.offset(0, column);
        let end = part.offset(end_line.saturating_sub(line), end_column).max(start);
        let excerpt = (
            Position { line, column, byte: start },
            Position { line: end_line, column: end_column, byte: end },
        );
        let source = Arc::new(SourceFile { excerpt: Some(excerpt), ..part });
        Ok(Self { source, span: Span::new(start, end) })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn positions_count_grapheme_clusters() {
        let s = SourceFile::new("a.hcl", "ab\ncd\u{301}e = 1\r\n");
        assert_eq!(s.position(0), Position { line: 1, column: 1, byte: 0 });
        assert_eq!(s.position(3), Position { line: 2, column: 1, byte: 3 });
        assert_eq!(s.position(7), Position { line: 2, column: 3, byte: 7 });
        assert_eq!(s.line(2), "cd\u{301}e = 1");
        assert_eq!(s.line(9), "");
        assert_eq!(s.position(999).line, 3);
        assert_eq!(Span::new(3, 8).in_source(&s).to_string(), "a.hcl:2,1-4");
        assert_eq!(Span::new(0, 4).in_source(&s).to_string(), "a.hcl:1,1-2,2");
    }

    #[test]
    fn places_are_read_as_they_were_written() {
        let text = format!("a\ncd\u{301}e = [\r\n{}]\n", "  1,\n".repeat(20));
        let source = SourceFile::new("a.hcl", text.as_str());
        for (start, end) in [(0, 1), (0, 4), (2, 7), (5, 9), (2, text.len() as u32 - 1), (9, 9)] {
            let place = Span::new(start, end).in_source(&source);
            let json = serde_json::to_string(&place).unwrap();
            let read: Location = serde_json::from_str(&json).unwrap();
            assert_eq!(serde_json::to_string(&read).unwrap(), json);
            assert_eq!((read.to_string(), read.snippet()), (place.to_string(), place.snippet()));
            assert!(read.source().text().get(read.span().range()).is_some(), "{json}");
        }
        // Whoever writes such a line may write nonsense.
        let nonsense = r#"{"file": "", "line": 4294967295, "column": 0, "end_line": 0, "end_column": 9, "snippet": "é\n"}"#;
        let read: Location = serde_json::from_str(nonsense).unwrap();
        assert_eq!(read.source().position(9).line, u32::MAX);
        assert_eq!((read.snippet(), read.source().line(0)), (String::new(), ""));
    }
}
