//! Diagnostics in the layout of Packer's own.

use super::{Diagnostic, Diagnostics, Location, Severity, SourceFile};

/// The width at which details are wrapped.
const WIDTH: usize = 80;
/// Of a place with more lines than this only the first are shown.
const MOST_LINES: u32 = 8;
/// How far above a line its block is looked for.
const SEARCH_LINES: u32 = 2000;

/// One finding as Packer prints it, with the source lines it is about, and an empty line at its end.
///
/// ```
/// use packer_core::diagnostic::packer_layout;
/// use packer_core::{Diagnostic, SourceFile, Span};
/// let source = SourceFile::new("a.pkr.hcl", "x = ]\n");
/// let diagnostic = Diagnostic::error("Missing expression").detail("No value.").at(Span::new(4, 5).in_source(&source));
/// assert_eq!(
///     packer_layout(&diagnostic),
///     "Error: Missing expression\n\n  on a.pkr.hcl line 1:\n   1: x = ]\n\nNo value.\n\n"
/// );
/// ```
pub fn packer_layout(diagnostic: &Diagnostic) -> String {
    let severity = match diagnostic.severity {
        Severity::Error => "Error",
        Severity::Warning => "Warning",
    };
    let mut text = format!("{severity}: {}\n\n", diagnostic.summary);
    if let Some(location) = &diagnostic.location {
        place(location, &mut text);
    }
    if !diagnostic.values.is_empty() {
        text.push_str(&format!("with {}.\n\n", diagnostic.values.join(",\n     ")));
    }
    for paragraph in [Some(&diagnostic.detail), diagnostic.help.as_ref()].into_iter().flatten() {
        if !paragraph.is_empty() {
            text.push_str(&wrapped(paragraph));
            text.push_str("\n\n");
        }
    }
    for (label, location) in &diagnostic.related {
        text.push_str(&format!("{label}:\n\n"));
        place(location, &mut text);
    }
    text
}

/// All findings as Packer prints them, one after the other.
pub fn packer_layout_all(diagnostics: &Diagnostics) -> String {
    diagnostics.iter().map(packer_layout).collect()
}

fn place(location: &Location, text: &mut String) {
    let (first, last) = (location.start().line, location.last_line());
    let block = enclosing_block(location.source(), first).map(|b| format!(", in {b}")).unwrap_or_default();
    text.push_str(&format!("  on {} line {first}{block}:\n", location.file()));
    for line in first..=last.min(first.saturating_add(MOST_LINES - 1)) {
        text.push_str(format!("{line:4}: {}", location.source().line(line)).trim_end());
        text.push('\n');
    }
    if last.saturating_sub(first) >= MOST_LINES {
        text.push_str("      …\n");
    }
    text.push('\n');
}

/// The header of the top-level block around a line of native syntax, `build` or `source "null" "a"`, where the file
/// is laid out as `fmt` leaves it: such a block begins at the start of a line and ends with a brace of its own there.
fn enclosing_block(source: &SourceFile, line: u32) -> Option<String> {
    if !source.name().ends_with(".hcl") {
        return None;
    }
    for number in (line.saturating_sub(SEARCH_LINES).max(1)..=line).rev() {
        let text = source.line(number);
        match text.chars().next() {
            Some('}') if number < line => return None,
            Some(c) if c.is_alphabetic() => {
                let header = text.split_once('{')?.0.trim_end();
                let first = header.split_whitespace().next()?;
                let is_header = first.chars().all(|c| c.is_alphanumeric() || c == '_' || c == '-')
                    && !header.contains('=');
                return is_header.then(|| header.to_owned());
            }
            _ => {}
        }
    }
    None
}

/// The text with line breaks put in at spaces where a line would be longer than [`WIDTH`].
fn wrapped(text: &str) -> String {
    let options = textwrap::Options::new(WIDTH)
        .break_words(false)
        .wrap_algorithm(textwrap::WrapAlgorithm::FirstFit)
        .word_separator(textwrap::WordSeparator::AsciiSpace)
        .word_splitter(textwrap::WordSplitter::NoHyphenation);
    textwrap::fill(text, options)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::diagnostic::Span;

    #[test]
    fn shows_the_lines_the_block_the_values_and_the_help() {
        let text = "build {\n  sources = []\n}\n\nvariable \"a\" {\n  defualt = [\n    1,\n  ]\n}\n";
        let source = SourceFile::new("main.pkr.hcl", text);
        let at = |word: &str| text.find(word).unwrap() as u32;
        let (start, block) = (at("defualt"), at("variable"));
        let mut diagnostic = Diagnostic::error("Unsupported argument")
            .detail(format!(
                "An argument named \"defualt\" is not expected here. {}",
                "word ".repeat(8).trim()
            ))
            .help("Did you mean \"default\"?")
            .at(Span::new(start, start + 16).in_source(&source))
            .related("The block is here", Span::new(block, block + 12).in_source(&source));
        diagnostic.values = vec!["var.x as \"a\"".into(), "var.y set to null".into()];
        let expected = "Error: Unsupported argument\n\
            \n\
            \x20 on main.pkr.hcl line 6, in variable \"a\":\n\
            \x20  6:   defualt = [\n\
            \x20  7:     1,\n\
            \n\
            with var.x as \"a\",\n\
            \x20    var.y set to null.\n\
            \n\
            An argument named \"defualt\" is not expected here. word word word word word word\n\
            word word\n\
            \n\
            Did you mean \"default\"?\n\
            \n\
            The block is here:\n\
            \n\
            \x20 on main.pkr.hcl line 5, in variable \"a\":\n\
            \x20  5: variable \"a\" {\n\
            \n";
        assert_eq!(packer_layout(&diagnostic), expected);
    }

    #[test]
    fn a_finding_without_a_place_or_detail_is_its_summary() {
        assert_eq!(packer_layout(&Diagnostic::warning("No builds")), "Warning: No builds\n\n");
    }

    #[test]
    fn long_places_are_cut() {
        let source = SourceFile::new("x.json", "line\n".repeat(100));
        let text = packer_layout(&Diagnostic::error("E").at(Span::new(0, 500).in_source(&source)));
        assert_eq!(text.lines().count(), 2 + 1 + 8 + 1 + 1);
        assert!(!text.contains("   9:"));
    }

    #[test]
    fn blocks_are_found_only_around_the_line() {
        let source = SourceFile::new("a.pkr.hcl", "build {\n}\nx = {\n  y\n}\n\nlocals { a = 1 }\n");
        let found: Vec<_> = (1..=7).map(|line| enclosing_block(&source, line)).collect();
        let block = |name: &str| Some(name.to_owned());
        assert_eq!(found, [block("build"), block("build"), None, None, None, None, block("locals")]);
    }
}
