//! Values that nobody is to see in the lines of text that a finding shows.

use std::sync::Arc;

use super::{Diagnostic, Diagnostics, Location, SourceFile};
use crate::secrets::{REDACTED, is_telling};

/// Which values of a text are hidden.
#[derive(Clone, Copy)]
pub(crate) enum Hide<'a> {
    /// All of them: the text is a file of values. What stays are these names where a line begins with one.
    Values(&'a dyn Fn(&str) -> bool),
    /// Those that are written beside an argument whose name says that its value is secret: nothing is known of the text yet
    /// but that it is wrong.
    Telling,
}

/// A text as findings may show it: each byte of what is hidden is `*`, so that places in it stay.
pub(crate) fn hidden(source: &Arc<SourceFile>, hide: Hide<'_>) -> Arc<SourceFile> {
    SourceFile::new(source.name(), masked(source.text(), hide))
}

impl Diagnostics {
    /// Findings from the number `from` on show their texts without what is hidden, and do not quote it.
    pub(crate) fn hide_values(&mut self, from: usize, hide: Hide<'_>) {
        let mut sources: Vec<Arc<SourceFile>> = Vec::new();
        for diagnostic in self.0.iter().skip(from) {
            let related = diagnostic.related.iter().map(|(_, place)| place);
            for source in diagnostic.location.iter().chain(related).map(Location::source) {
                if !sources.iter().any(|known| Arc::ptr_eq(known, source)) {
                    sources.push(source.clone());
                }
            }
        }
        for source in sources {
            self.show_instead(from, &source, &hidden(&source, hide));
        }
    }

    /// Findings about a text, those from the number `from` on, show another one in its place that has the same places: see
    /// [`hidden`]. Nor do their words quote what is hidden in the lines they are about.
    pub(crate) fn show_instead(&mut self, from: usize, source: &Arc<SourceFile>, shown: &Arc<SourceFile>) {
        for diagnostic in self.0.iter_mut().skip(from) {
            let about = diagnostic.location.clone().filter(|place| Arc::ptr_eq(place.source(), source));
            if let Some(place) = &about {
                let parts = hidden_parts(place, shown);
                diagnostic.unquote(&parts);
            }
            let related = diagnostic.related.iter_mut().map(|(_, place)| place);
            for place in diagnostic.location.iter_mut().chain(related) {
                if Arc::ptr_eq(place.source(), source) {
                    *place = place.span().in_source(shown);
                }
            }
        }
    }
}

impl Location {
    /// The same place in a text in which nothing of it is to be seen.
    pub(crate) fn hidden(&self) -> Self {
        let text = self.source().text();
        let within = |offset: u32| text.floor_char_boundary(offset as usize);
        let (start, end) = (within(self.span().start), within(self.span().end));
        let end = end.max(start);
        let masked = text[start..end].bytes().map(|byte| if byte == b'\n' { '\n' } else { '*' });
        let masked = text[..start].chars().chain(masked).chain(text[end..].chars());
        self.span().in_source(&SourceFile::new(self.file(), masked.collect::<String>()))
    }
}

impl Diagnostic {
    /// Takes out of what it says what it quotes of these parts of a text, and numbers.
    fn unquote(&mut self, parts: &[&str]) {
        let is_hidden =
            |word: &str| word.contains(char::is_alphanumeric) && parts.iter().any(|part| part.contains(word));
        for suggestion in &mut self.suggestions {
            suggestion.replacement.take_if(|name| is_hidden(name));
        }
        let suggestions = self.suggestions.iter_mut().map(|suggestion| &mut suggestion.text);
        let texts = [&mut self.summary, &mut self.detail].into_iter().chain(&mut self.help);
        for text in texts.chain(suggestions).chain(&mut self.values) {
            for between in ['"', '\'', '`', ' '] {
                let mut pieces: Vec<&str> = text.split(between).collect();
                let last = pieces.len() - 1;
                let mut changed = false;
                for (number, piece) in pieces.iter_mut().enumerate() {
                    let candidate = match between {
                        ' ' => piece.len() > 2 && piece.contains(|c: char| c.is_ascii_digit()),
                        _ => 0 < number && number < last,
                    };
                    if candidate && is_hidden(piece) {
                        (*piece, changed) = (REDACTED, true);
                    }
                }
                if changed {
                    *text = pieces.join(&between.to_string());
                }
            }
        }
    }
}

/// In how many lines of a place is looked for what its finding may quote.
const MOST_LINES: u32 = 8;

/// What is hidden in the lines of a place.
fn hidden_parts<'s>(place: &'s Location, shown: &SourceFile) -> Vec<&'s str> {
    let (first, last) = (place.start().line, place.last_line());
    let part = |line: u32| {
        let text = place.source().line(line);
        // The hidden part is the last one of a line.
        let from = shown.line(line).bytes().zip(text.bytes()).position(|(shown, is)| shown != is)?;
        Some(&text[text.floor_char_boundary(from)..])
    };
    (first..=last.min(first.saturating_add(MOST_LINES - 1))).filter_map(part).collect()
}

fn masked(text: &str, hide: Hide<'_>) -> String {
    let mut masked = String::with_capacity(text.len());
    let mut secret_variable = false;
    for line in text.split_inclusive('\n') {
        let end = line.trim_end().len();
        let from = match hide {
            Hide::Values(is_name) => behind_name(line, is_name),
            Hide::Telling => {
                match line.chars().next() {
                    Some('}') => secret_variable = false,
                    Some(c) if c.is_alphabetic() => secret_variable = declares_secret(line),
                    _ => {}
                }
                behind_telling_name(line, secret_variable)
            }
        };
        let from = from + (line[from..].len() - line[from..].trim_start().len());
        let from = from.min(end);
        masked.push_str(&line[..from]);
        masked.extend(std::iter::repeat_n('*', end - from));
        masked.push_str(&line[end..]);
    }
    masked
}

/// Where a line goes on behind a name that it begins with (`NAME =`, `"NAME":`); at its beginning where there is none.
fn behind_name(line: &str, is_name: &dyn Fn(&str) -> bool) -> usize {
    let start =
        line.len() - line.trim_start_matches(|c: char| c.is_whitespace() || matches!(c, '{' | ',')).len();
    match named(line, start) {
        Some((name, behind)) if is_name(name) => behind,
        _ => 0,
    }
}

/// Where a line goes on behind the first name that says that a secret follows, unless no value is written there but what
/// it is taken from; at its end where there is none.
fn behind_telling_name(line: &str, in_secret_variable: bool) -> usize {
    let mut at = 0;
    while at < line.len() {
        let rest = &line[at..];
        let Some(letter) = rest.find(|c: char| c == '"' || c == '_' || c.is_alphanumeric()) else { break };
        at += letter;
        if let Some((name, behind)) = named(line, at)
            && (is_telling(name) || (in_secret_variable && name == "default"))
            && !is_reference(line[behind..].trim_start())
        {
            return behind;
        }
        let rest = &line[at..];
        let word = rest.find(|c: char| !(c == '_' || c == '-' || c.is_alphanumeric())).unwrap_or(rest.len());
        at += word.max(rest.chars().next().map_or(1, char::len_utf8));
    }
    line.len()
}

/// The name at a place of a line, with or without quotes, that an equals sign or a colon follows, and where that ends.
fn named(line: &str, at: usize) -> Option<(&str, usize)> {
    let rest = &line[at..];
    let (quote, rest) = match rest.strip_prefix('"') {
        Some(rest) => (1, rest),
        None => (0, rest),
    };
    let length = rest.find(|c: char| !(c == '_' || c == '-' || c.is_alphanumeric())).unwrap_or(rest.len());
    let (name, behind) = rest.split_at(length);
    let behind = if quote == 1 { behind.strip_prefix('"')? } else { behind };
    let sign = behind.trim_start();
    let after = sign.strip_prefix(['=', ':'])?;
    (!name.is_empty() && !after.starts_with(['=', '>'])).then(|| (name, line.len() - after.len()))
}

/// Whether a value is no literal: a reference or a call.
fn is_reference(value: &str) -> bool {
    let length = value.find(|c: char| !(c == '_' || c == '-' || c.is_alphanumeric())).unwrap_or(value.len());
    let (root, rest) = value.split_at(length);
    let is_root = matches!(root, "var" | "local" | "data" | "each" | "build" | "source" | "path" | "packer");
    // What is called is given texts, which may be it.
    (is_root && rest.starts_with(['.', '['])) && !rest.contains('"')
}

/// Whether a line begins the declaration of a variable whose name says that it is secret.
fn declares_secret(line: &str) -> bool {
    line.strip_prefix("variable").is_some_and(|rest| {
        let name = rest.trim_start().trim_start_matches('"');
        is_telling(name.split(['"', ' ', '{']).next().unwrap_or_default())
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::diagnostic::Span;

    #[test]
    fn of_values_nothing_is_shown_but_known_names() {
        let known = |name: &str| matches!(name, "pw" | "hosts");
        for (line, shown) in [
            ("pw = \"geheim\n", "pw = *******\n"),
            ("  pw=geheim ü\r\n", "  pw=*********\r\n"),
            ("{\"pw\" : \"geheim\", \"hosts\": 1}", "{\"pw\" : *********************"),
            ("pw == x", "*******"),
            ("other = \"x\"", "***********"),
            ("dGVzdA=", "*******"),
            ("]\n\n", "*\n\n"),
            ("pw =", "pw ="),
            ("", ""),
        ] {
            assert_eq!(masked(line, Hide::Values(&known)), shown);
        }
    }

    #[test]
    fn of_a_template_values_beside_telling_names_are_hidden() {
        for (text, shown) in [
            ("  password = \"geheim\n  user = \"x\"\n", "  password = *******\n  user = \"x\"\n"),
            ("  login_password = var.pw]\n", "  login_password = var.pw]\n"),
            ("  password = \"${var.pw}geheim\n", "  password = ****************\n"),
            ("  password = geheim\n", "  password = ******\n"),
            (
                "{\"type\": \"x\", \"ssh_password\": \"geheim\" \"y\"}",
                "{\"type\": \"x\", \"ssh_password\": *************",
            ),
            ("  env = [\"API_TOKEN=geheim\"\n", "  env = [\"API_TOKEN=*******\n"),
            (
                "variable \"db_password\" {\n  default = \"geheim\n}\nvariable \"x\" {\n  default = 1\n",
                "variable \"db_password\" {\n  default = *******\n}\nvariable \"x\" {\n  default = 1\n",
            ),
            ("  token == \"x\" ? 1\n", "  token == \"x\" ? 1\n"),
            ("é = \"ü\" ]", "é = \"ü\" ]"),
        ] {
            assert_eq!(masked(text, Hide::Telling), shown);
        }
    }

    #[test]
    fn words_do_not_quote_what_is_hidden() {
        let source = SourceFile::new("x.pkrvars.hcl", "pw = geheim\n");
        let mut found = Diagnostics::new();
        let finding = |span: Span| Diagnostic::error("Variables not allowed").at(span.in_source(&source));
        found.push(finding(Span::new(5, 11)).detail("\"geheim\" is a variable.").suggest("geheim"));
        found.show_instead(0, &source, &hidden(&source, Hide::Values(&|name| name == "pw")));
        let text = format!("{:?}{}", found, serde_json::to_string(&found).unwrap());
        assert!(!text.contains("geheim"), "{text}");
        assert!(text.contains("1: pw = ******"), "{text}");
    }
}
