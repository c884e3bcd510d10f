//! Diagnostics: what is wrong, where, and what would help.
//!
//! Everything that reads something a person wrote (a template, a variable file, a value on the command
//! line) reports [`Diagnostic`]s and goes on, so that one run names every mistake. They are data: how they
//! look is the host's choice.

mod layout;
#[cfg(feature = "render")]
mod snippet;

use std::fmt;
use std::ops::Range;
use std::sync::{Arc, OnceLock};

use serde::ser::SerializeStruct;
use serde::{Serialize, Serializer};
use unicode_segmentation::UnicodeSegmentation;

pub use layout::{packer_layout, packer_layout_all};
#[cfg(feature = "render")]
pub use snippet::snippet_layout;

use crate::secrets::Secrets;

/// A piece of text that was read, with its name; shared by everything that points into it.
pub struct SourceFile {
    name: String,
    text: String,
    /// Byte offsets at which lines start; made when a place is first asked for.
    lines: OnceLock<Vec<u32>>,
}

impl SourceFile {
    /// A text under the name that diagnostics show for it (a path as the user gave it, or `<console-input>`).
    pub fn new(name: impl Into<String>, text: impl Into<String>) -> Arc<Self> {
        Arc::new(Self { name: name.into(), text: text.into(), lines: OnceLock::new() })
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
        Position { line: line as u32 + 1, column: column as u32, byte: offset as u32 }
    }

    /// The text of a line (from 1), without its line end; empty where there is no such line.
    pub fn line(&self, line: u32) -> &str {
        let lines = self.lines();
        let Some(start) = lines.get((line as usize).wrapping_sub(1)) else { return "" };
        let end = lines.get(line as usize).map_or(self.text.len(), |e| *e as usize);
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
        self.source.position(self.span.start)
    }

    /// Where the span ends.
    pub fn end(&self) -> Position {
        self.source.position(self.span.end)
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
            (first..=last.min(first + MOST - 1)).map(|line| self.source.line(line)).collect();
        lines.join("\n")
    }

    /// The last line that the place covers; one that ends at the start of a line does not cover it.
    fn last_line(&self) -> u32 {
        let (start, end) = (self.start(), self.end());
        if end.column == 1 && end.line > start.line { end.line - 1 } else { end.line }
    }
}

/// `file`, `line`, `column`, `end_line`, `end_column` and `snippet`, the lines it lies on.
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

/// How bad it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Severity {
    /// Worth knowing; the work goes on.
    Warning,
    /// The work cannot be done.
    Error,
}

/// Another place that explains a finding.
#[derive(Serialize)]
struct RelatedPlace<'a> {
    label: &'a str,
    #[serde(flatten)]
    location: &'a Location,
}

fn related_places<S: Serializer>(related: &[(String, Location)], serializer: S) -> Result<S::Ok, S::Error> {
    serializer.collect_seq(related.iter().map(|(label, location)| RelatedPlace { label, location }))
}

/// Something that would mend what is wrong.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[non_exhaustive]
pub struct Suggestion {
    /// What to do, in words or as it would be written.
    pub text: String,
    /// A name to write in the place of the one that is wrong.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub replacement: Option<String>,
}

/// One finding: a summary that scripts can match on, a detail for people, and the place.
///
/// Serialized it is one flat object: `severity`, `summary`, `detail`, then `file`, `line`, `column`, `end_line`,
/// `end_column` and `snippet` where it has a place, and `related`, `help`, `suggestions` and `values` where there are any.
#[derive(Debug, Clone, PartialEq, Serialize)]
#[non_exhaustive]
pub struct Diagnostic {
    /// How bad it is.
    pub severity: Severity,
    /// One line; the same text for the same kind of mistake.
    pub summary: String,
    /// Sentences that say what came, what was wanted and why; may be empty.
    pub detail: String,
    /// What the finding is about.
    #[serde(flatten, skip_serializing_if = "Option::is_none")]
    pub location: Option<Location>,
    /// Other places that explain it (the first definition, the block it is in), each with a short label.
    #[serde(skip_serializing_if = "Vec::is_empty", serialize_with = "related_places")]
    pub related: Vec<(String, Location)>,
    /// What would mend it: `did you mean "…"?`, the flag to give.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub help: Option<String>,
    /// The same for programs, one thing each.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub suggestions: Vec<Suggestion>,
    /// Values of the references in a failing expression, as `var.x as "a"`; sensitive ones are never listed.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub values: Vec<String>,
}

impl Diagnostic {
    /// An error with its summary.
    pub fn error(summary: impl Into<String>) -> Self {
        Self::new(Severity::Error, summary)
    }

    /// A warning with its summary.
    pub fn warning(summary: impl Into<String>) -> Self {
        Self::new(Severity::Warning, summary)
    }

    fn new(severity: Severity, summary: impl Into<String>) -> Self {
        Self {
            severity,
            summary: summary.into(),
            detail: String::new(),
            location: None,
            related: Vec::new(),
            help: None,
            suggestions: Vec::new(),
            values: Vec::new(),
        }
    }

    /// Adds the detail.
    #[must_use]
    pub fn detail(mut self, detail: impl Into<String>) -> Self {
        self.detail = detail.into();
        self
    }

    /// Adds the place.
    #[must_use]
    pub fn at(mut self, location: Location) -> Self {
        self.location = Some(location);
        self
    }

    /// Adds the place where none is known yet.
    #[must_use]
    pub fn or_at(mut self, location: &Location) -> Self {
        if self.location.is_none() {
            self.location = Some(location.clone());
        }
        self
    }

    /// Adds another place that explains the finding.
    #[must_use]
    pub fn related(mut self, label: impl Into<String>, location: Location) -> Self {
        self.related.push((label.into(), location));
        self
    }

    /// Adds what would mend it.
    #[must_use]
    pub fn help(mut self, help: impl Into<String>) -> Self {
        let text = help.into();
        self.suggestions = vec![Suggestion { text: text.clone(), replacement: None }];
        self.help = Some(text);
        self
    }

    /// Adds a name that was probably meant.
    #[must_use]
    pub fn suggest(mut self, meant: &str) -> Self {
        let text = format!("did you mean {meant:?}?");
        self.suggestions = vec![Suggestion { text: text.clone(), replacement: Some(meant.to_owned()) }];
        self.help = Some(text);
        self
    }

    /// Adds several things that would mend it, each on a line of its own under a heading.
    #[must_use]
    pub fn help_list(mut self, heading: &str, items: impl IntoIterator<Item = String>) -> Self {
        let items = items.into_iter().map(|text| Suggestion { text, replacement: None });
        self.suggestions = items.collect();
        let lines = self.suggestions.iter().map(|s| format!("\n  {}", s.text));
        self.help = Some(lines.fold(heading.to_owned(), |text, line| text + &line));
        self
    }

    /// Takes the secrets out of every text, also out of the source text that the places show.
    pub fn scrub(&mut self, secrets: &Secrets) {
        if secrets.is_empty() {
            return;
        }
        let texts = [&mut self.summary, &mut self.detail];
        let suggestions =
            self.suggestions.iter_mut().flat_map(|s| [&mut s.text].into_iter().chain(&mut s.replacement));
        for text in texts.into_iter().chain(&mut self.help).chain(&mut self.values).chain(suggestions) {
            if let std::borrow::Cow::Owned(scrubbed) = secrets.scrub(text.as_str()) {
                *text = scrubbed;
            }
        }
        for location in self.location.iter_mut().chain(self.related.iter_mut().map(|(_, l)| l)) {
            if let Some(masked) = secrets.mask(location.source.text()) {
                location.source = SourceFile::new(location.source.name(), masked);
            }
        }
    }

    /// Whether this is an error.
    pub fn is_error(&self) -> bool {
        self.severity == Severity::Error
    }
}

/// `FILE:LINE,COL-COL: SUMMARY; DETAIL`, on one line where the detail is.
impl fmt::Display for Diagnostic {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if let Some(location) = &self.location {
            write!(f, "{location}: ")?;
        }
        f.write_str(&self.summary)?;
        if !self.detail.is_empty() {
            if !self.summary.is_empty() {
                f.write_str("; ")?;
            }
            f.write_str(&self.detail)?;
        }
        if let Some(help) = &self.help {
            write!(f, " ({help})")?;
        }
        Ok(())
    }
}

/// Findings in the order they were made.
///
/// Functions that check something return `(T, Diagnostics)` or push into one they are given; those that
/// cannot give a result with errors return `Result<T, Diagnostics>`.
#[derive(Debug, Clone, Default, PartialEq, Serialize)]
#[serde(transparent)]
pub struct Diagnostics(Vec<Diagnostic>);

impl Diagnostics {
    /// None yet.
    pub const fn new() -> Self {
        Self(Vec::new())
    }

    /// Adds one.
    pub fn push(&mut self, diagnostic: Diagnostic) {
        self.0.push(diagnostic);
    }

    /// Adds all of another list.
    pub fn append(&mut self, other: Self) {
        self.0.extend(other.0);
    }

    /// Whether any is an error.
    pub fn has_errors(&self) -> bool {
        self.0.iter().any(Diagnostic::is_error)
    }

    /// Whether there is none at all.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// How many there are.
    pub fn len(&self) -> usize {
        self.0.len()
    }

    /// Each in turn.
    pub fn iter(&self) -> std::slice::Iter<'_, Diagnostic> {
        self.0.iter()
    }

    /// Shortens the list to its first `len`: takes back what a branch not taken had to say.
    pub fn truncate(&mut self, len: usize) {
        self.0.truncate(len);
    }

    /// Takes the secrets out of every finding.
    pub fn scrub(&mut self, secrets: &Secrets) {
        self.0.iter_mut().for_each(|d| d.scrub(secrets));
    }

    /// Gives every finding without a place this one.
    #[must_use]
    pub fn or_at(self, location: &Location) -> Self {
        Self(self.0.into_iter().map(|d| d.or_at(location)).collect())
    }

    /// `Ok(value)` where there is no error (warnings are dropped), else all findings.
    pub fn into_result<T>(self, value: T) -> Result<T, Self> {
        if self.has_errors() { Err(self) } else { Ok(value) }
    }
}

/// Every finding in its one-line form, one a line.
impl fmt::Display for Diagnostics {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (i, d) in self.0.iter().enumerate() {
            if i > 0 {
                f.write_str("\n")?;
            }
            write!(f, "{d}")?;
        }
        Ok(())
    }
}

impl std::error::Error for Diagnostics {}

impl From<Diagnostic> for Diagnostics {
    fn from(d: Diagnostic) -> Self {
        Self(vec![d])
    }
}

impl Extend<Diagnostic> for Diagnostics {
    fn extend<I: IntoIterator<Item = Diagnostic>>(&mut self, iter: I) {
        self.0.extend(iter);
    }
}

impl FromIterator<Diagnostic> for Diagnostics {
    fn from_iter<I: IntoIterator<Item = Diagnostic>>(iter: I) -> Self {
        Self(iter.into_iter().collect())
    }
}

impl IntoIterator for Diagnostics {
    type Item = Diagnostic;
    type IntoIter = std::vec::IntoIter<Diagnostic>;
    fn into_iter(self) -> Self::IntoIter {
        self.0.into_iter()
    }
}

impl<'a> IntoIterator for &'a Diagnostics {
    type Item = &'a Diagnostic;
    type IntoIter = std::slice::Iter<'a, Diagnostic>;
    fn into_iter(self) -> Self::IntoIter {
        self.0.iter()
    }
}

/// The nearest of `candidates`, the first of equals, if it is near enough to be what a misspelt name meant: within
/// two edits, or one where there are fewer than four letters.
pub fn did_you_mean<'a>(word: &str, candidates: impl IntoIterator<Item = &'a str>) -> Option<&'a str> {
    let word: Vec<char> = word.chars().collect();
    let limit = if word.len() < 4 { 1 } else { 2 };
    let near = candidates.into_iter().filter_map(|c| Some((edits(&word, c, limit)?, c)));
    near.min_by_key(|(distance, _)| *distance).map(|(_, c)| c)
}

/// How many letters must be added, dropped, replaced or swapped with their neighbour to make one word of another;
/// `None` for more than `limit`.
fn edits(a: &[char], b: &str, limit: usize) -> Option<usize> {
    // Most candidates differ too much in length alone. A letter has at most four bytes.
    if b.len() > (a.len() + limit) * 4 {
        return None;
    }
    let b: Vec<char> = b.chars().collect();
    if a.len().abs_diff(b.len()) > limit {
        return None;
    }
    let mut before: Vec<usize> = Vec::new();
    let mut row: Vec<usize> = (0..=b.len()).collect();
    for (i, ca) in a.iter().enumerate() {
        let mut next = Vec::with_capacity(row.len());
        next.push(i + 1);
        for (j, cb) in b.iter().enumerate() {
            let replaced = row[j] + usize::from(ca != cb);
            let mut fewest = replaced.min(row[j + 1] + 1).min(next[j] + 1);
            if i > 0 && j > 0 && *ca == b[j - 1] && a[i - 1] == *cb {
                fewest = fewest.min(before[j - 1] + 1);
            }
            next.push(fewest);
        }
        before = std::mem::replace(&mut row, next);
    }
    Some(row[b.len()]).filter(|distance| *distance <= limit)
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
    fn the_nearest_name_is_suggested() {
        for (word, candidates, expected) in [
            ("provisoner", ["source", "provisioner"], Some("provisioner")),
            ("shell", ["file", "x"], None),
            ("image.a-1", ["image.a", "image.a-0"], Some("image.a-0")),
            ("valeu", ["values", "value"], Some("value")),
            ("a", ["xy", "bc"], None),
            ("txt", ["text", "tx"], Some("text")),
            ("", ["ab", "abc"], None),
        ] {
            assert_eq!(did_you_mean(word, candidates), expected, "{word}");
        }
    }
}
