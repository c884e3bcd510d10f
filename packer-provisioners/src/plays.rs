//! What both provisioners for Ansible have in common: paths, and passwords in what Ansible is told.

use std::ops::Range;
use std::path::{Component, Path, PathBuf};

use packer_core::{Context, Error, Result};

/// The absolute path of a file, without `.` and `..`.
pub(crate) fn absolute(path: &str) -> Result<PathBuf> {
    let whole = std::path::absolute(path).map_err(|e| Error::io("stat", Path::new(path), e))?;
    let mut clean = PathBuf::new();
    for part in whole.components() {
        match part {
            Component::CurDir => {}
            Component::ParentDir => drop(clean.pop()),
            part => clean.push(part),
        }
    }
    Ok(clean)
}

/// An argument as it is shown: without the passwords in it. What a value is made of, only Ansible knows, or a shell: all
/// behind the first name is left out.
pub(crate) fn masked(argument: &str) -> String {
    match passwords(argument).first() {
        Some(first) => format!("{}*****", &argument[..first.start]),
        None => argument.to_owned(),
    }
}

/// Registers the passwords that stand in an argument, a variable or an inventory, as far as they can be told apart from what
/// is around them: Ansible may print them.
pub(crate) fn learn(cx: &Context, text: &str) {
    for place in passwords(text) {
        let (written, meant) = value(&text[place]);
        // What Ansible or a shell makes a value of is none. What stands everywhere cannot be hidden.
        let made = written.contains("{{") || written.starts_with('$');
        if !made && meant.chars().count() >= SHORTEST && !WORDS.contains(&meant.as_str()) {
            cx.secrets().add(written);
            cx.secrets().add(&meant);
        }
    }
}

const SHORTEST: usize = 4;
const WORDS: [&str; 4] = ["true", "false", "null", "none"];

/// Where values begin whose names say that they are passwords, each up to the next one: `name=value`, `name: value`, and the
/// same with quotes around the name.
fn passwords(text: &str) -> Vec<Range<usize>> {
    let is_part = |c: char| c.is_alphanumeric() || c == '_' || c == '-';
    let mut starts = Vec::new();
    let mut at = 0;
    while let Some(begin) = text[at..].find(is_part).map(|n| at + n) {
        let end = text[begin..].find(|c| !is_part(c)).map_or(text.len(), |n| begin + n);
        at = end;
        // A shell may want the quotes of JSON quoted.
        let rest = text[end..].trim_start_matches(['\\', '"', '\'']).trim_start();
        if let Some(value) = rest.strip_prefix(['=', ':'])
            && is_password(&text[begin..end])
        {
            at = text.len() - value.len();
            starts.push(at);
        }
    }
    let ends = starts.iter().skip(1).copied().chain([text.len()]);
    starts.iter().copied().zip(ends).map(|(start, end)| start..end).collect()
}

/// Whether a name is one of a password: `ansible_password`, `ansible_become_pass`, `ansible_ssh_pass`, `api_token`, …
fn is_password(name: &str) -> bool {
    let name = name.trim_end_matches(|c: char| c.is_ascii_digit()).to_lowercase();
    let ends = ["password", "passwd", "passphrase", "secret", "token"];
    ends.iter().any(|end| name.ends_with(end)) || name.rsplit(['_', '-']).next() == Some("pass")
}

/// The value that a text begins with, as it is written and as it is meant.
fn value(text: &str) -> (&str, String) {
    let text = text.trim_start().trim_start_matches('\\');
    let Some(quote) = text.chars().next().filter(|c| matches!(c, '"' | '\'')) else {
        let end = text.find(|c: char| c.is_whitespace() || ",}\"'".contains(c)).unwrap_or(text.len());
        return (&text[..end], text[..end].to_owned());
    };
    let (text, mut meant) = (&text[1..], String::new());
    let mut characters = text.char_indices();
    while let Some((at, c)) = characters.next() {
        match c {
            c if c == quote => return (&text[..at], meant),
            // The quote that ends it may be quoted for a shell: then it ends with the backslash.
            '\\' => match characters.next() {
                Some((_, c)) if c == quote && text[at + 2..].trim_start().starts_with([',', '}']) => {
                    return (&text[..at], meant);
                }
                Some((_, c)) => meant.push(c),
                None => {}
            },
            c => meant.push(c),
        }
    }
    (text, meant)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn passwords_are_not_shown() {
        for (argument, shown) in [
            ("ansible_password=a b c", "ansible_password=*****"),
            ("x=1 ansible_password='q'", "x=1 ansible_password=*****"),
            ("ansible_ssh_pass=q", "ansible_ssh_pass=*****"),
            ("--extra-vars=ansible_become_password=q", "--extra-vars=ansible_become_password=*****"),
            ("-eansible_winrm_password=q", "-eansible_winrm_password=*****"),
            ("ansible_become_pass=q ansible_user=me", "ansible_become_pass=*****"),
            (r#"{"x": 1, "ansible_password": "q", "y": 2}"#, r#"{"x": 1, "ansible_password":*****"#),
            (r#""{\"ansible_ssh_pass\":\"q\"}""#, r#""{\"ansible_ssh_pass\":*****"#),
            ("{ansible_become_pass: q}", "{ansible_become_pass:*****"),
            ("'db_password' : q", "'db_password' :*****"),
        ] {
            assert_eq!(masked(argument), shown);
        }
        for plain in [
            "id=7",
            "--ask-become-pass",
            "--vault-password-file=/a",
            "ansible_ssh_private_key_file=/k",
            "bypass=1",
            "password",
            "",
        ] {
            assert_eq!(masked(plain), plain);
        }
    }

    #[test]
    fn what_is_known_of_passwords_is_a_secret() {
        let bench = packer_core::testing::Bench::new();
        let cx = bench.context();
        for (argument, password) in [
            ("ansible_ssh_pass=f1rst! x=1", "f1rst!"),
            ("ansible_become_pass='s3c ond'", "s3c ond"),
            (r#"{"ansible_password": "th\"ird", "n": 1}"#, "th\"ird"),
            (r#""{\"ansible_password\": \"f0urth\", \"n\": 1}""#, "f0urth"),
            ("{ansible_become_password: f1fth, n: 1}", "f1fth"),
            ("ansible_ssh_pass=s1xth ansible_become_pass=s3venth", "s1xth"),
            ("", "s3venth"),
        ] {
            learn(cx, argument);
            assert_eq!(cx.secrets().scrub(password), "<sensitive>", "{argument}");
        }
        for text in ["ask_pass=true", "a_password={{ vault }}", "b_pass=$B_PASS", "c_pass=x"] {
            learn(cx, text);
            assert_eq!(cx.secrets().scrub(text), text);
        }
    }
}
