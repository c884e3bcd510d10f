//! What can be told of a Dockerfile without building it: the images that it starts from, and whether BuildKit must build it.

use std::collections::BTreeMap;

/// Arguments that BuildKit sets by itself where a stage declares them.
const AUTOMATIC: [&str; 8] = [
    "TARGETPLATFORM",
    "TARGETOS",
    "TARGETARCH",
    "TARGETVARIANT",
    "BUILDPLATFORM",
    "BUILDOS",
    "BUILDARCH",
    "BUILDVARIANT",
];

/// An instruction, on one line.
struct Instruction {
    /// Of its first line, from 1.
    line: usize,
    /// In upper case.
    name: String,
    arguments: String,
    /// The word that ends a text which begins in it.
    here: Option<String>,
}

/// The instructions of a Dockerfile; what is none is skipped.
fn instructions(text: &str) -> Vec<Instruction> {
    let escape = if escapes_with_backtick(text) { '`' } else { '\\' };
    let mut found = Vec::new();
    let mut lines = text.lines().enumerate().peekable();
    while let Some((at, first)) = lines.next() {
        if is_comment(first) {
            continue;
        }
        let mut whole = first.trim().to_owned();
        while let Some(rest) = whole.trim_end().strip_suffix(escape) {
            whole.truncate(rest.len());
            match lines.next() {
                Some((_, more)) if is_comment(more) => whole.push(escape),
                Some((_, more)) => whole.push_str(more.trim()),
                None => break,
            }
        }
        let (name, arguments) = whole.split_once(char::is_whitespace).unwrap_or((&whole, ""));
        let name = name.to_ascii_uppercase();
        let mut here = None;
        if matches!(name.as_str(), "RUN" | "COPY" | "ADD")
            && let Some((word, tabs)) = here_document(arguments)
            && let Some(length) = lines.clone().position(|(_, line)| ends(line, &word, tabs))
        {
            lines.nth(length);
            here = Some(word);
        }
        found.push(Instruction { line: at + 1, name, arguments: arguments.trim().to_owned(), here });
    }
    found
}

fn is_comment(line: &str) -> bool {
    let line = line.trim();
    line.is_empty() || line.starts_with('#')
}

/// Whether the directives at the top say that `` ` `` is the escape character.
fn escapes_with_backtick(text: &str) -> bool {
    let directives = text.lines().map_while(|line| line.trim().strip_prefix('#'));
    directives
        .filter_map(|line| line.split_once('='))
        .any(|(name, value)| name.trim().eq_ignore_ascii_case("escape") && value.trim() == "`")
}

/// The word of `<<WORD`, and whether its end may stand behind tabs.
fn here_document(arguments: &str) -> Option<(String, bool)> {
    arguments.match_indices("<<").find_map(|(at, sign)| {
        let rest = &arguments[at + sign.len()..];
        let (rest, tabs) = rest.strip_prefix('-').map_or((rest, false), |rest| (rest, true));
        let rest = rest.trim_start_matches(['"', '\'']);
        let end = rest.find(|c: char| !c.is_alphanumeric() && c != '_').unwrap_or(rest.len());
        let word = &rest[..end];
        word.starts_with(|c: char| c.is_alphabetic() || c == '_').then(|| (word.to_owned(), tabs))
    })
}

fn ends(line: &str, word: &str, tabs: bool) -> bool {
    if tabs { line.trim_start_matches('\t') == word } else { line == word }
}

/// The flags in front of an instruction's arguments, without their values.
fn flags(arguments: &str) -> impl Iterator<Item = &str> {
    let flags = arguments.split_whitespace().map_while(|word| word.strip_prefix("--"));
    flags.map(|flag| flag.split('=').next().unwrap_or(flag))
}

/// The images that its stages start from.
pub(super) fn base_images(text: &str) -> Vec<String> {
    let from = instructions(text).into_iter().filter(|i| i.name == "FROM");
    let images = from.filter_map(|i| {
        let image = i.arguments.split_whitespace().find(|word| !word.starts_with("--"))?;
        (image != "scratch").then(|| image.to_owned())
    });
    images.collect()
}

/// The first thing in it that the engine's first builder does not know, and its line. `given` are the build's arguments.
pub(super) fn needs_buildkit(text: &str, given: &BTreeMap<String, String>) -> Option<(usize, String)> {
    let automatic = |name: &str| AUTOMATIC.contains(&name) && !given.contains_key(name);
    instructions(text).into_iter().find_map(|i| {
        let known: &[&str] = match i.name.as_str() {
            "RUN" => &[],
            "COPY" => &["from", "chown"],
            "ADD" => &["chown"],
            "ARG" => {
                let names = i.arguments.split_whitespace().map(|word| word.split('=').next().unwrap_or(word));
                return names
                    .into_iter()
                    .find(|name| automatic(name))
                    .map(|name| (i.line, format!("ARG {name}")));
            }
            "FROM" => {
                let platform =
                    i.arguments.split_whitespace().find_map(|word| word.strip_prefix("--platform=$"));
                let name = platform?.trim_matches(['{', '}', '"']);
                return automatic(name).then(|| (i.line, format!("--platform=${name}")));
            }
            _ => return None,
        };
        if let Some(flag) = flags(&i.arguments).find(|flag| !known.contains(flag)) {
            return Some((i.line, format!("{} --{flag}", i.name)));
        }
        i.here.map(|word| (i.line, format!("<<{word}")))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_only_buildkit_knows() {
        let none = BTreeMap::new();
        for (text, want) in [
            ("FROM a\nRUN x --mount=y\nCOPY --from=b --chown=1 c d\n", None),
            ("# syntax=docker/dockerfile:1\nFROM a\n", None),
            ("FROM a\nrun --mount=type=cache,target=/x make\n", Some((2, "RUN --mount"))),
            (
                "FROM a\nRUN a \\\n  # --mount\n  && b\nCOPY --link \\\n --chmod=644 a b",
                Some((5, "COPY --link")),
            ),
            ("FROM a\nADD --checksum=sha256:0 http://x /x", Some((2, "ADD --checksum"))),
            ("FROM a\nRUN <<EOF\nRUN --mount=x y\nEOF\n", Some((2, "<<EOF"))),
            ("FROM a\nCOPY <<-'E' /x\n\thi\n\tE\n", Some((2, "<<E"))),
            ("FROM a\nRUN echo $((1<<x))\n", None),
            ("FROM --platform=$BUILDPLATFORM a\n", Some((1, "--platform=$BUILDPLATFORM"))),
            ("FROM a\nARG TARGETARCH\n", Some((2, "ARG TARGETARCH"))),
            ("# escape=`\nFROM a\nRUN dir C:\\\nRUN --network=none x `\n y", Some((4, "RUN --network"))),
            ("FROM a\nRUN x \\", None),
            ("", None),
        ] {
            let found = needs_buildkit(text, &none);
            assert_eq!(found, want.map(|(line, what)| (line, what.to_owned())), "{text}");
        }
        let given = [("TARGETARCH".to_owned(), "arm".to_owned())].into();
        assert_eq!(needs_buildkit("FROM a\nARG TARGETARCH", &given), None);
    }

    #[test]
    fn what_it_starts_from() {
        let text = "ARG V=1\nFROM --platform=linux/amd64 \\\n  a:1 AS one\nFROM scratch\nfrom r.io/b\nRUN echo \\\nFROM c\n";
        assert_eq!(base_images(text), ["a:1", "r.io/b"]);
    }
}
