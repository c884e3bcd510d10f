//! Diagnostics drawn as rustc draws its own.

use std::ops::Range;

use annotate_snippets::renderer::DecorStyle;
use annotate_snippets::{Annotation, AnnotationKind, Group, Level, Renderer, Snippet};

use super::{Diagnostic, Location, Severity};

/// One finding with its place marked in the source text, `--> FILE:LINE:COLUMN`, without a final line end.
///
/// `color` adds terminal escapes.
pub fn snippet_layout(diagnostic: &Diagnostic, color: bool) -> String {
    let level = match diagnostic.severity {
        Severity::Error => Level::ERROR,
        Severity::Warning => Level::WARNING,
    };
    let mut group = Group::with_title(level.primary_title(diagnostic.summary.as_str()));
    if let Some(location) = &diagnostic.location {
        group = group.element(snippet(location, AnnotationKind::Primary, None));
    }
    for (label, location) in &diagnostic.related {
        group = group.element(snippet(location, AnnotationKind::Context, Some(label)));
    }
    if !diagnostic.detail.is_empty() {
        group = group.element(Level::NOTE.message(diagnostic.detail.as_str()));
    }
    if !diagnostic.values.is_empty() {
        let values = format!("with {}", diagnostic.values.join(", "));
        group = group.element(Level::NOTE.message(values));
    }
    if let Some(help) = &diagnostic.help {
        group = group.element(Level::HELP.message(help.as_str()));
    }
    let renderer = if color { Renderer::styled() } else { Renderer::plain() };
    renderer.decor_style(DecorStyle::Ascii).render(&[group])
}

fn snippet<'a>(
    location: &'a Location,
    kind: AnnotationKind,
    label: Option<&'a str>,
) -> Snippet<'a, Annotation<'a>> {
    let text = location.source().text();
    let annotation = kind.span(range_within(text, location)).label(label);
    let first = location.source().first_line() as usize;
    Snippet::source(text).line_start(first).path(location.file()).annotation(annotation)
}

/// The place as a range that slicing the text bears.
fn range_within(text: &str, location: &Location) -> Range<usize> {
    let within = |offset: u32| text.floor_char_boundary(offset as usize);
    let (start, end) = (within(location.span().start), within(location.span().end));
    start..end.max(start)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::diagnostic::{SourceFile, Span};

    #[test]
    fn draws_the_place_and_what_explains_it() {
        let source = SourceFile::new("a.pkr.hcl", "variable \"é\" {\n  defualt = 1\n}\n");
        let diagnostic = Diagnostic::error("Unsupported argument")
            .detail("Not expected here.")
            .help("did you mean \"default\"?")
            .at(Span::new(18, 25).in_source(&source))
            .related("in this block", Span::new(0, 8).in_source(&source));
        let text = snippet_layout(&diagnostic, false);
        assert!(text.starts_with("error: Unsupported argument\n --> a.pkr.hcl:2:3\n"), "{text}");
        for part in
            ["2 |   defualt = 1\n  |   ^^^^^^^", "in this block", "note: Not expected", "help: did you"]
        {
            assert!(text.contains(part), "{part} in {text}");
        }
        assert!(snippet_layout(&diagnostic, true).contains("\x1b["));
    }

    #[test]
    fn places_outside_of_the_text_are_drawn_at_its_end() {
        let source = SourceFile::new("a", "é");
        let text = snippet_layout(&Diagnostic::warning("W").at(Span::new(1, 99).in_source(&source)), false);
        assert!(text.starts_with("warning: W\n --> a:1:1\n"), "{text}");
    }
}
