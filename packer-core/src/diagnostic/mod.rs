//! Diagnostics: what is wrong, where, and what would help.
//!
//! Everything that reads something a person wrote (a template, a variable file, a value on the command
//! line) reports [`Diagnostic`]s and goes on, so that one run names every mistake. They are data: how they
//! look is the host's choice.

mod argument;
mod hide;
mod layout;
#[cfg(feature = "render")]
mod snippet;
mod source;

use std::fmt;

use serde::{Deserialize, Deserializer, Serialize, Serializer};

pub(crate) use argument::{Part, parts};
pub(crate) use hide::{Hide, hidden};
pub use layout::{packer_layout, packer_layout_all};
#[cfg(feature = "render")]
pub use snippet::snippet_layout;
pub use source::{Location, Position, SourceFile, Span};

use crate::secrets::Secrets;

/// How bad it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
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

fn read_related<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Vec<(String, Location)>, D::Error> {
    #[derive(Deserialize)]
    struct Place {
        label: String,
        #[serde(flatten)]
        location: Location,
    }
    let places = Vec::<Place>::deserialize(deserializer)?;
    Ok(places.into_iter().map(|place| (place.label, place.location)).collect())
}

/// Something that would mend what is wrong.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[non_exhaustive]
pub struct Suggestion {
    /// What to do, in words or as it would be written.
    pub text: String,
    /// A name to write in the place of the one that is wrong.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub replacement: Option<String>,
}

/// One finding: a summary that scripts can match on, a detail for people, and the place.
///
/// Serialized it is one flat object: `severity`, `summary`, `detail`, then `file`, `line`, `column`, `end_line`,
/// `end_column` and `snippet` where it has a place, and `about`, `related`, `help`, `suggestions` and `values` where there
/// are any. `Debug` is what [`packer_layout`] makes of it.
#[derive(Clone, PartialEq, Serialize, Deserialize)]
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
    /// The argument of a component that it is about; see [`about`](Self::about).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub about: Option<String>,
    /// Other places that explain it (the first definition, the block it is in), each with a short label.
    #[serde(
        default,
        skip_serializing_if = "Vec::is_empty",
        serialize_with = "related_places",
        deserialize_with = "read_related"
    )]
    pub related: Vec<(String, Location)>,
    /// What would mend it: `did you mean "…"?`, the flag to give.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub help: Option<String>,
    /// The same for programs, one thing each.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub suggestions: Vec<Suggestion>,
    /// Values of the references in a failing expression, as `var.x as "a"`; sensitive ones are never listed.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
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
            about: None,
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

    /// Names the argument of the component that the finding is about, for a component's own `prepare`: `disk_size`, that
    /// of a nested block `drive.size`, of the second such block `drive[1].size`, an item of a list `commands[0]`, an entry
    /// of a map `tags.owner`. What the template says there becomes the place, as near as it can be found; where
    /// a build is written in code there is none.
    ///
    /// ```
    /// use packer_core::Diagnostic;
    /// let sizes = [10, 0];
    /// let found = sizes.iter().enumerate().filter(|(_, size)| **size == 0).map(|(i, _)| {
    ///     Diagnostic::error("A drive cannot be empty").about(format!("drive[{i}].size"))
    /// });
    /// assert_eq!(found.last().unwrap().about.as_deref(), Some("drive[1].size"));
    /// ```
    ///
    /// In a template that is a place:
    ///
    /// ```
    /// use packer_core::template::{Inputs, Template};
    /// use packer_core::{Context, Diagnostic, Diagnostics, Machine, PrepareContext, Provisioner, Registry, Result};
    /// use packer_core::async_trait;
    ///
    /// #[derive(serde::Deserialize, schemars::JsonSchema)]
    /// struct Users {
    ///     names: Vec<String>,
    /// }
    ///
    /// #[async_trait]
    /// impl Provisioner for Users {
    ///     fn prepare(&self, _: &PrepareContext) -> Diagnostics {
    ///         let wrong = |(i, name): (usize, &String)| {
    ///             let wrong = Diagnostic::error(format!("{name:?} is no name")).about(format!("names[{i}]"));
    ///             name.contains(':').then_some(wrong)
    ///         };
    ///         self.names.iter().enumerate().filter_map(wrong).collect()
    ///     }
    ///
    ///     async fn provision(&self, _: &Context, _: &dyn Machine) -> Result<()> {
    ///         Ok(()) // …
    ///     }
    /// }
    ///
    /// # #[cfg(feature = "testing")]
    /// # tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap().block_on(async {
    /// # let mut registry = Registry::new();
    /// # registry.builder::<packer_core::testing::FakeBuilder>("fake");
    /// registry.provisioner::<Users>("users");
    /// let template = Template::from_texts([("users.pkr.hcl", r#"
    ///   source "fake" "a" { folder = "/tmp" }
    ///   build {
    ///     sources = ["fake.a"]
    ///     provisioner "users" {
    ///       names = ["ada",
    ///                "a:b"]
    ///     }
    ///   }
    /// "#)])?;
    /// let found = template.validate(&registry, Inputs::new()).await;
    /// let place = found.iter().next().unwrap().location.as_ref().unwrap();
    /// assert_eq!(place.to_string(), "users.pkr.hcl:7,16-21");
    /// # Ok::<(), Diagnostics>(())
    /// # }).unwrap();
    /// ```
    #[must_use]
    pub fn about(mut self, argument: impl Into<String>) -> Self {
        self.about = Some(argument.into());
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
        for value in &mut self.values {
            if let std::borrow::Cow::Owned(scrubbed) = secrets.scrub(value.as_str()) {
                *value = scrubbed;
            }
        }
        let texts = [&mut self.summary, &mut self.detail];
        let suggestions =
            self.suggestions.iter_mut().flat_map(|s| [&mut s.text].into_iter().chain(&mut s.replacement));
        for text in texts.into_iter().chain(&mut self.help).chain(suggestions) {
            if let std::borrow::Cow::Owned(scrubbed) = secrets.scrub_prose(text.as_str()) {
                *text = scrubbed;
            }
        }
        for location in self.location.iter_mut().chain(self.related.iter_mut().map(|(_, l)| l)) {
            location.mask(secrets);
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

impl fmt::Debug for Diagnostic {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(packer_layout(self).trim_end())
    }
}

/// Findings in the order they were made.
///
/// Functions that check something return `(T, Diagnostics)` or push into one they are given; those that
/// cannot give a result with errors return `Result<T, Diagnostics>`. `Debug` shows them with their source lines, as
/// [`packer_layout_all`] does, so that a `main` that returns them prints something to read:
///
/// ```
/// use packer_core::template::Template;
/// let found = Template::from_texts([("a.pkr.hcl", "x = ]\n")]).unwrap_err();
/// assert!(format!("{found:?}").contains("on a.pkr.hcl line 1:\n   1: x = ]\n"));
/// ```
#[derive(Clone, Default, PartialEq, Serialize, Deserialize)]
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

/// Begins on a line of its own: whoever shows it has mostly written something before.
impl fmt::Debug for Diagnostics {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.is_empty() {
            return f.write_str("nothing found");
        }
        write!(f, "\n{}", packer_layout_all(self).trim_end())
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
    fn what_main_prints_can_be_read() {
        fn main() -> Result<(), Box<dyn std::error::Error>> {
            let source = SourceFile::new("a.pkr.hcl", "x = ]\n");
            let wrong = Diagnostic::error("Missing expression").at(Span::new(4, 5).in_source(&source));
            Err(Diagnostics::from_iter([wrong, Diagnostic::warning("W")]))?
        }
        let printed = format!("Error: {:?}", main().unwrap_err());
        assert_eq!(
            printed,
            "Error: \nError: Missing expression\n\n  on a.pkr.hcl line 1:\n   1: x = ]\n\nWarning: W"
        );
        assert_eq!(format!("{:?}", Diagnostics::new()), "nothing found");
    }

    #[test]
    fn what_was_written_can_be_read_again() {
        let source = SourceFile::new("a.pkr.hcl", "é = 1\nb = 2\n");
        let place = |start, end| Span::new(start, end).in_source(&source);
        let full = Diagnostic::error("S")
            .detail("D")
            .at(place(8, 13))
            .about("b[0]")
            .related("the first", place(0, 2))
            .suggest("c");
        for found in [full, Diagnostic::warning("W")] {
            let json = serde_json::to_string(&found).unwrap();
            let read: Diagnostic = serde_json::from_str(&json).unwrap();
            assert_eq!(serde_json::to_string(&read).unwrap(), json);
            assert_eq!(format!("{read:?}"), format!("{found:?}"));
        }
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
