//! Functions on files and paths.

use std::path::Path;

use base64::Engine;
use base64::prelude::BASE64_STANDARD;

use super::glob::Pattern;
use super::{Add, Capabilities, FileKind, Function, FunctionResult, Param, text};
use crate::value::{Type, Value};

pub(super) fn add(add: Add<'_>) {
    type Body = fn(&str, &Capabilities) -> FunctionResult;
    let path = |returns: Type, body: Body| {
        Function::new([Param::string("path")], returns, move |a, cx| body(text(&a[0]), cx))
    };
    add("abspath", path(Type::String, |p, cx| Ok(slashes(&clean(&to_text(&cx.cwd.join(p)))))));
    add("basename", path(Type::String, |p, _| Ok(Value::from(base_name(p)))));
    add("dirname", path(Type::String, |p, _| Ok(Value::from(dir_name(p)))));
    add("file", path(Type::String, |p, cx| read_text(p, cx).map(|s| Value::text(&s)).map_err(Into::into)));
    add(
        "filebase64",
        path(Type::String, |p, cx| {
            let data =
                cx.files.read(&cx.cwd.join(p)).map_err(|e| format!("failed to read file {p:?}: {e}"))?;
            Ok(Value::from(BASE64_STANDARD.encode(data)))
        }),
    );
    add("fileexists", path(Type::Bool, file_exists));
    add("pathexpand", path(Type::String, |p, cx| Ok(Value::from(to_text(&cx.expand_home(p)?)))));
    add(
        "fileset",
        Function::new(["path", "pattern"].map(Param::string), Type::set(Type::String), |a, cx| {
            file_set(text(&a[0]), text(&a[1]), cx)
        }),
    );
}

/// The text of a file as `file` and `templatefile` read it: `~` expanded, relative to the template's folder.
///
/// # Errors
/// Where there is no such file, it cannot be read, or it is no UTF-8.
pub fn read_text(path: &str, capabilities: &Capabilities) -> Result<String, String> {
    let full = capabilities.template_path(path)?;
    let data = capabilities.files.read(&full).map_err(|e| match e.kind() {
        std::io::ErrorKind::NotFound => format!("no file exists at {}", clean(path)),
        _ => format!("failed to read {}: {e}", clean(path)),
    })?;
    String::from_utf8(data).map_err(|_| {
        format!(
            "contents of {} are not valid UTF-8; use the filebase64 function to obtain the Base64 encoded contents \
             or the other file functions (e.g. filemd5, filesha256) to obtain file hashing results instead",
            clean(path)
        )
    })
}

fn file_exists(path: &str, cx: &Capabilities) -> FunctionResult {
    let shown = clean(path);
    match cx.files.kind(&cx.template_path(path)?) {
        Ok(FileKind::File) => Ok(Value::bool(true)),
        Ok(FileKind::Directory) => Err(format!("{shown} is not a regular file, but a directory").into()),
        Ok(_) => Err(format!("{shown} is not a regular file").into()),
        Err(e) if e.kind() == std::io::ErrorKind::NotFound => Ok(Value::bool(false)),
        Err(e) => Err(format!("failed to stat {shown}: {e}").into()),
    }
}

fn file_set(folder: &str, pattern: &str, cx: &Capabilities) -> FunctionResult {
    let pattern =
        Pattern::parse(pattern).map_err(|e| format!("failed to glob pattern ({folder}/{pattern}): {e}"))?;
    let root = cx.cwd.join(&cx.base_dir).join(folder);
    let found = pattern.files(&root, &*cx.files).map_err(|e| format!("failed to glob {folder}: {e}"))?;
    Ok(Value::set(Type::String, found.iter().map(|name| Value::text(name))))
}

fn to_text(path: &Path) -> String {
    path.to_string_lossy().into_owned()
}

fn slashes(path: &str) -> Value {
    Value::from(if cfg!(windows) { path.replace('\\', "/") } else { path.to_owned() })
}

fn is_separator(c: char) -> bool {
    c == '/' || (cfg!(windows) && c == '\\')
}

/// The path without `.`, `..` and doubled separators as far as the text tells; `.` for the empty one.
pub(super) fn clean(path: &str) -> String {
    let (volume, rest) = split_volume(path);
    let rooted = rest.starts_with(is_separator);
    let mut parts: Vec<&str> = Vec::new();
    for part in rest.split(is_separator) {
        match part {
            "" | "." => {}
            ".." if parts.last().is_some_and(|last| *last != "..") => {
                parts.pop();
            }
            ".." if rooted => {}
            part => parts.push(part),
        }
    }
    let separator = std::path::MAIN_SEPARATOR_STR;
    let body = parts.join(separator);
    match (rooted, body.is_empty() && volume.is_empty()) {
        (true, _) => format!("{volume}{separator}{body}"),
        (false, true) => ".".to_owned(),
        (false, false) => format!("{volume}{body}"),
    }
}

/// `C:` and the rest, on Windows.
fn split_volume(path: &str) -> (&str, &str) {
    let has_drive = cfg!(windows)
        && path.as_bytes().get(1) == Some(&b':')
        && path.as_bytes().first().is_some_and(u8::is_ascii_alphabetic);
    path.split_at(if has_drive { 2 } else { 0 })
}

fn base_name(path: &str) -> String {
    if path.is_empty() {
        return ".".to_owned();
    }
    let (_, rest) = split_volume(path);
    let trimmed = rest.trim_end_matches(is_separator);
    match trimmed.rsplit(is_separator).next() {
        Some("") | None => std::path::MAIN_SEPARATOR_STR.to_owned(),
        Some(name) => name.to_owned(),
    }
}

fn dir_name(path: &str) -> String {
    let (volume, rest) = split_volume(path);
    let folder = rest.rfind(is_separator).map_or("", |at| &rest[..=at]);
    clean(&format!("{volume}{folder}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    #[cfg(unix)]
    fn paths_are_cleaned_as_text() {
        for (path, cleaned, base, dir) in [
            ("a/b/c.conf", "a/b/c.conf", "c.conf", "a/b"),
            ("a/b/", "a/b", "b", "a/b"),
            ("", ".", ".", "."),
            ("/x", "/x", "x", "/"),
            ("///", "/", "/", "/"),
            ("a//b/../c/d", "a/c/d", "d", "a/c"),
            ("../../x", "../../x", "x", "../.."),
            ("/../x", "/x", "x", "/"),
            ("a/..", ".", "..", "a"),
        ] {
            assert_eq!(
                (clean(path), base_name(path), dir_name(path)),
                (cleaned.into(), base.into(), dir.into())
            );
        }
    }

    #[test]
    fn a_host_can_refuse_files() {
        let error = read_text("a", &Capabilities::none()).unwrap_err();
        assert!(error.contains("no access to files"), "{error}");
    }
}
