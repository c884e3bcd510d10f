//! A small part of `cmd` over the files of what stands in for Windows: as much as the behaviour suite asks.

use super::windows::{Reply, Windows, key};
use super::winrm::between;

/// Where temporary files are.
const TEMP: &str = "C:\\Temp";

impl Windows {
    /// Runs a command line.
    pub(super) fn cmd(&mut self, text: &str, stdin: &[u8]) -> Reply {
        self.sequence(&text.replace("%TEMP%", TEMP), stdin).0
    }

    /// Commands with `&` between them, until one fails; and whether one of them was `exit`.
    fn sequence(&mut self, text: &str, stdin: &[u8]) -> (Reply, bool) {
        let mut all = Reply::code(0);
        for part in parts(text) {
            let (next, exits) = self.one(part.trim(), stdin);
            let stdout = [all.stdout, next.stdout].concat();
            all = Reply { stdout, stderr: [all.stderr, next.stderr].concat(), ..next };
            if exits || all.code != Some(0) {
                return (all, exits);
            }
        }
        (all, false)
    }

    fn one(&mut self, text: &str, stdin: &[u8]) -> (Reply, bool) {
        if let Some((inner, rest)) = group(text) {
            let (mut reply, exits) = self.sequence(inner, stdin);
            if let Some(file) = rest.strip_prefix('>') {
                self.files.insert(key(file.trim_matches('"')), std::mem::take(&mut reply.stdout));
            }
            return (reply, exits);
        }
        let (word, rest) = text.split_once(' ').unwrap_or((text, ""));
        let path = between(text, "\"", "\"").unwrap_or_default();
        let reply = match word {
            "exit" => return (Reply::code(rest.parse().unwrap_or(0)), true),
            "if" => return self.choice(text, &path, stdin),
            "for" => return self.repetition(text, &path, stdin),
            "echo" => match rest.strip_suffix(">&2") {
                Some(rest) => Reply { stderr: format!("{rest}\r\n").into(), ..Reply::code(0) },
                None => Reply::prints(format!("{rest}\r\n")),
            },
            "mkdir" => {
                self.make_folder(&path);
                Reply::code(0)
            }
            "rmdir" => {
                let inner = format!("{}/", key(&path));
                self.files.retain(|file, _| !file.starts_with(&inner));
                Reply::code(0)
            }
            "findstr" => Reply::prints(stdin),
            "ping" => Reply::forever(),
            _ => {
                Reply::fails(format!("'{word}' is not recognized as an internal or external command\r\n"), 1)
            }
        };
        (reply, false)
    }

    /// `if exist "PATH" (…) else (…)`.
    fn choice(&mut self, text: &str, path: &str, stdin: &[u8]) -> (Reply, bool) {
        let is_there = self.is_folder(path) || self.files.contains_key(&key(path));
        let branches = text.split_once("\" ").and_then(|(_, rest)| group(rest)).unwrap_or_default();
        match is_there {
            true => self.sequence(branches.0, stdin),
            false => self.sequence(branches.1.trim_start_matches(" else "), stdin),
        }
    }

    /// `for /l %i in (FROM,STEP,TO) do @…`, without an end where the step is nothing, and `for %I in ("PATH") do @echo %~zI`.
    fn repetition(&mut self, text: &str, path: &str, stdin: &[u8]) -> (Reply, bool) {
        let (head, body) = text.split_once(" do @").unwrap_or_default();
        let numbers = between(head, "(", ")").unwrap_or_default();
        let numbers: Vec<usize> = numbers.split(',').filter_map(|number| number.parse().ok()).collect();
        match numbers[..] {
            [_, 0, _] if body.starts_with("if exist ") => {
                let then = body.split_once("\" ").and_then(|(_, rest)| group(rest)).unwrap_or_default().0;
                let (reply, exits) = self.sequence(then, stdin);
                (Reply { until: Some(key(path)), ..reply }, exits)
            }
            [_, 0, _] => (Reply { repeats: true, code: None, ..self.sequence(body, stdin).0 }, false),
            [from, step, to] => {
                let (reply, exits) = self.sequence(body, stdin);
                let times = (to + step - from) / step;
                let (stdout, stderr) = (reply.stdout.repeat(times), reply.stderr.repeat(times));
                (Reply { stdout, stderr, ..reply }, exits)
            }
            _ => match self.files.get(&key(path)) {
                Some(content) => (Reply::prints(format!("{}\r\n", content.len())), false),
                None => (Reply::prints("\r\n"), false),
            },
        }
    }
}

/// The commands of a line.
fn parts(text: &str) -> Vec<&str> {
    let (mut depth, mut is_quoted, mut before, mut start) = (0, false, ' ', 0);
    let mut parts = Vec::new();
    for (place, c) in text.char_indices() {
        match c {
            '"' => is_quoted = !is_quoted,
            '(' if !is_quoted => depth += 1,
            ')' if !is_quoted => depth -= 1,
            '&' if !is_quoted && depth == 0 && before != '>' => {
                parts.push(&text[start..place]);
                start = place + 1;
            }
            _ => {}
        }
        before = c;
    }
    parts.push(&text[start..]);
    parts.retain(|part| !part.trim().is_empty());
    parts
}

/// What stands in the parentheses that a text begins with, and what follows them.
fn group(text: &str) -> Option<(&str, &str)> {
    let (mut depth, mut is_quoted) = (0, false);
    for (place, c) in text.strip_prefix('(')?.char_indices() {
        match c {
            '"' => is_quoted = !is_quoted,
            '(' if !is_quoted => depth += 1,
            ')' if !is_quoted && depth == 0 => return Some((&text[1..=place], &text[place + 2..])),
            ')' if !is_quoted => depth -= 1,
            _ => {}
        }
    }
    None
}
