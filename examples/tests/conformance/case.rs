//! A recorded case: directives, the command line, and sections of text.

use std::collections::BTreeMap;
use std::path::Path;

/// What was recorded.
#[derive(Debug, Default)]
pub(crate) struct Case {
    /// Arguments of the program.
    pub(crate) args: Vec<String>,
    pub(crate) env: BTreeMap<String, String>,
    pub(crate) exit: u8,
    /// What is compared beside the exit code and the files.
    pub(crate) compare: Vec<String>,
    /// Whether it runs against a Docker engine.
    pub(crate) needs_engine: bool,
    /// Texts that the output must not hold.
    pub(crate) absent: Vec<String>,
    /// Files that are there before, by name.
    pub(crate) inputs: BTreeMap<String, Vec<u8>>,
    /// What is on standard input.
    pub(crate) stdin: Vec<u8>,
    /// Standard output and error.
    pub(crate) output: String,
    /// Standard output alone.
    pub(crate) stdout: String,
    /// Files that were made or changed, by name.
    pub(crate) files: BTreeMap<String, String>,
}

impl Case {
    /// Reads a case; one that is malformed fails the test.
    pub(crate) fn read(path: &Path) -> Self {
        let text = std::fs::read_to_string(path).unwrap();
        let mut case = Self::default();
        let (mut bare, mut compare) = (Vec::new(), None);
        let mut sections: Vec<(String, String)> = Vec::new();
        for line in text.split_inclusive('\n') {
            let trimmed = line.trim_end_matches('\n');
            if let Some(name) = trimmed.strip_prefix("-- ").and_then(|l| l.strip_suffix(" --")) {
                sections.push((name.to_owned(), String::new()));
            } else if let Some((_, section)) = sections.last_mut() {
                section.push_str(line);
            } else if let Some((word, rest)) = trimmed.split_once(' ') {
                let words = || rest.split_whitespace().map(str::to_owned);
                match word {
                    "#" => {}
                    "$" => case.args = words_of_shell(rest).split_off(1),
                    "env" => {
                        let (name, value) = rest.split_once('=').unwrap();
                        case.env.insert(name.to_owned(), value.to_owned());
                    }
                    "exit" => case.exit = rest.parse().unwrap(),
                    "compare" => compare = Some(words().collect()),
                    "needs" => case.needs_engine = true,
                    "absent" => case.absent.push(rest.to_owned()),
                    "no-final-newline" => bare.extend(words()),
                    other => panic!("{}: not a directive: {other}", path.display()),
                }
            }
        }
        for (name, mut text) in sections {
            if bare.contains(&name) && text.ends_with('\n') {
                text.pop();
            }
            case.section(&name, text);
        }
        let by_default = match (case.exit, case.args.first().map(String::as_str)) {
            (0, Some("build")) => "files",
            (0, _) => "stdout",
            _ => "diagnostics",
        };
        case.compare = compare.unwrap_or_else(|| vec![by_default.to_owned()]);
        case
    }

    /// Whether files must be equal byte for byte.
    pub(crate) fn is_exact(&self) -> bool {
        self.args.first().is_some_and(|command| command == "fmt")
    }

    fn section(&mut self, name: &str, text: String) {
        if let Some(name) = name.strip_prefix("in-base64/") {
            self.inputs.insert(name.to_owned(), base64(&text));
        } else if let Some(name) = name.strip_prefix("in/") {
            self.inputs.insert(name.to_owned(), text.into_bytes());
        } else if let Some(name) = name.strip_prefix("out/") {
            self.files.insert(name.to_owned(), text);
        } else if name == "stdin" {
            self.stdin = text.into_bytes();
        } else if name == "stdout" || name == "stderr" {
            if name == "stdout" {
                self.stdout.clone_from(&text);
            }
            self.output.push_str(&text);
        }
    }
}

/// Splits as a shell does: spaces part words, quotes keep them, a backslash keeps the next character.
fn words_of_shell(text: &str) -> Vec<String> {
    let (mut words, mut word, mut quote) = (Vec::new(), None::<String>, None);
    let mut chars = text.chars();
    while let Some(c) = chars.next() {
        match (quote, c) {
            (Some(q), c) if c == q => quote = None,
            (None, '\'' | '"') => {
                quote = Some(c);
                word.get_or_insert_default();
            }
            (None | Some('"'), '\\') => word.get_or_insert_default().extend(chars.next()),
            (None, ' ') => words.extend(word.take()),
            (_, c) => word.get_or_insert_default().push(c),
        }
    }
    words.extend(word);
    words
}

fn base64(text: &str) -> Vec<u8> {
    let digit = |c: u8| {
        b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/".iter().position(|d| *d == c)
    };
    let digits: Vec<usize> = text.bytes().filter_map(digit).collect();
    let mut bytes = Vec::new();
    for group in digits.chunks(4) {
        let bits = group.iter().fold(0, |bits, d| bits << 6 | d) << (6 * (4 - group.len()));
        bytes.extend([(bits >> 16) as u8, (bits >> 8) as u8, bits as u8].iter().take(group.len() - 1));
    }
    bytes
}
