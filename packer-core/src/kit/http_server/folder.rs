//! A folder and everything in it, served as Go's file server does: pages of folders, `index.html`, parts of files, dates.

use std::fs::{File, Metadata};
use std::io::{self, Read};
use std::ops::Range;
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use bytes::Bytes;
use hyper::header::{
    ACCEPT_RANGES, CONTENT_LENGTH, CONTENT_RANGE, CONTENT_TYPE, HeaderMap, HeaderName, HeaderValue,
    IF_MODIFIED_SINCE, IF_RANGE, LAST_MODIFIED, RANGE,
};
use hyper::{Response, StatusCode};
use percent_encoding::{AsciiSet, NON_ALPHANUMERIC, utf8_percent_encode};

use super::answer::{Answer, Content, dated, elsewhere, of_bytes, wrong};
use super::sniff;

/// What stays as it is in the path of a URL.
const PATH: &AsciiSet = &NON_ALPHANUMERIC
    .remove(b'-')
    .remove(b'_')
    .remove(b'.')
    .remove(b'~')
    .remove(b'$')
    .remove(b'&')
    .remove(b'+')
    .remove(b'/')
    .remove(b':')
    .remove(b'=')
    .remove(b'@');

/// The most entries of a folder that are shown.
const MOST: usize = 100_000;

/// What a path of the folder is.
enum Found {
    File(File, Metadata),
    Folder(PathBuf),
}

/// A request: its path, decoded and cleaned, and whether that ended in a slash.
pub(super) struct Asked<'a> {
    pub(super) path: &'a str,
    pub(super) slash: bool,
    pub(super) query: Option<&'a str>,
    pub(super) headers: &'a HeaderMap,
}

/// The answer to a request for a path of a folder. It blocks its thread.
///
/// No path leads out of the folder: it has no `..` any more. Links in it are followed wherever they lead, as Go does: whoever
/// put them there serves what they point to.
pub(super) fn answer(folder: &Path, asked: &Asked<'_>) -> Answer {
    if asked.path.ends_with("/index.html") && !asked.slash {
        return elsewhere("./", asked.query);
    }
    let name = asked.path.rsplit('/').next().unwrap_or_default();
    let escaped = utf8_percent_encode(name, PATH);
    match open(folder, asked.path) {
        Err(e) => refused(&e),
        Ok(Found::Folder(_)) if !asked.slash => elsewhere(&format!("{escaped}/"), asked.query),
        Ok(Found::File(..)) if asked.slash => elsewhere(&format!("../{escaped}"), asked.query),
        Ok(Found::File(file, found)) => of_file(name, file, &found, asked.headers),
        Ok(Found::Folder(path)) => match open(folder, &format!("{}/index.html", asked.path)) {
            Ok(Found::File(file, found)) => of_file("index.html", file, &found, asked.headers),
            _ => page(&path),
        },
    }
}

fn refused(error: &io::Error) -> Answer {
    match error.kind() {
        io::ErrorKind::NotFound | io::ErrorKind::NotADirectory | io::ErrorKind::InvalidFilename => {
            wrong(StatusCode::NOT_FOUND, "404 page not found")
        }
        io::ErrorKind::PermissionDenied => wrong(StatusCode::FORBIDDEN, "403 Forbidden"),
        _ => wrong(StatusCode::INTERNAL_SERVER_ERROR, "500 Internal Server Error"),
    }
}

fn open(folder: &Path, path: &str) -> io::Result<Found> {
    let mut at = folder.to_owned();
    for part in path.split('/').filter(|part| !part.is_empty()) {
        if part == ".." || part.contains('\0') || cfg!(windows) && part.contains(['\\', ':']) {
            return Err(io::ErrorKind::NotFound.into());
        }
        at.push(part);
    }
    let found = std::fs::metadata(&at)?;
    if found.is_dir() {
        return Ok(Found::Folder(at));
    }
    // To open a pipe would wait for somebody at its other end.
    if !found.is_file() {
        return Err(io::ErrorKind::PermissionDenied.into());
    }
    let file = File::open(&at)?;
    let found = file.metadata()?;
    Ok(Found::File(file, found))
}

/// A file, or the part of it that was asked for.
fn of_file(name: &str, mut file: File, found: &Metadata, headers: &HeaderMap) -> Answer {
    let modified = found.modified().ok().filter(|time| *time > UNIX_EPOCH).map(whole_seconds);
    let told = modified.and_then(|time| HeaderValue::try_from(httpdate::fmt_http_date(time)).ok());
    let mut answer = Response::new(Content::empty());
    let date = |name: HeaderName| {
        headers.get(name)?.to_str().ok().and_then(|text| httpdate::parse_http_date(text).ok())
    };
    if let (Some(modified), Some(since)) = (modified, date(IF_MODIFIED_SINCE))
        && modified <= since
    {
        answer.headers_mut().extend(told.map(|told| (LAST_MODIFIED, told)));
        *answer.status_mut() = StatusCode::NOT_MODIFIED;
        return dated(answer);
    }
    let kind = sniff::by_name(name).map_or_else(
        || {
            let mut start = Vec::with_capacity(sniff::LOOK);
            (&mut file).take(sniff::LOOK as u64).read_to_end(&mut start).map(|_| sniff::by_content(&start))
        },
        Ok,
    );
    let kind = match kind {
        Ok(kind) => kind,
        Err(e) => return refused(&e),
    };
    let length = found.len();
    // A part of another content than the client has is of no use to it.
    let same = !headers.contains_key(IF_RANGE) || modified.is_some() && date(IF_RANGE) == modified;
    let range = headers.get(RANGE).filter(|_| same).and_then(|range| range.to_str().ok());
    let range = match range.map_or(Asks::All, |range| part_of(range, length)) {
        Asks::All => None,
        Asks::Part(range) => Some(range),
        Asks::Nothing => {
            let mut answer = wrong(StatusCode::RANGE_NOT_SATISFIABLE, "invalid range: failed to overlap");
            if let Ok(all) = HeaderValue::try_from(format!("bytes */{length}")) {
                answer.headers_mut().insert(CONTENT_RANGE, all);
            }
            return answer;
        }
    };
    let sent = range.clone().unwrap_or(0..length);
    let part = range.and_then(|range| {
        HeaderValue::try_from(format!("bytes {}-{}/{length}", range.start, range.end.saturating_sub(1))).ok()
    });
    if part.is_some() {
        *answer.status_mut() = StatusCode::PARTIAL_CONTENT;
    }
    // In the order of Go: by name.
    let headers = answer.headers_mut();
    headers.insert(ACCEPT_RANGES, HeaderValue::from_static("bytes"));
    headers.insert(CONTENT_LENGTH, HeaderValue::from(sent.end - sent.start));
    headers.extend(part.map(|part| (CONTENT_RANGE, part)));
    headers.insert(CONTENT_TYPE, HeaderValue::from_static(kind));
    headers.extend(told.map(|told| (LAST_MODIFIED, told)));
    *answer.body_mut() = Content::file(file, sent.start, sent.end - sent.start);
    dated(answer)
}

/// As dates in headers count.
fn whole_seconds(time: SystemTime) -> SystemTime {
    let seconds = time.duration_since(UNIX_EPOCH).map_or(0, |since| since.as_secs());
    UNIX_EPOCH + Duration::from_secs(seconds)
}

/// Which part of a file is asked for.
#[derive(Debug, PartialEq, Eq)]
enum Asks {
    All,
    Part(Range<u64>),
    Nothing,
}

/// Several parts at once, and what cannot be read, is answered with the whole file.
fn part_of(range: &str, length: u64) -> Asks {
    let Some((start, end)) = range.strip_prefix("bytes=").and_then(|range| range.trim().split_once('-'))
    else {
        return Asks::All;
    };
    let number = |text: &str| text.trim().parse::<u64>().ok();
    match (start.trim(), end.trim()) {
        ("", last) => match number(last) {
            Some(0) => Asks::Nothing,
            Some(_) if length == 0 => Asks::All,
            Some(last) => Asks::Part(length.saturating_sub(last)..length),
            None => Asks::All,
        },
        (start, end) => {
            let end = if end.is_empty() { Some(u64::MAX) } else { number(end) };
            match (number(start), end) {
                (Some(start), Some(end)) if start <= end => match start < length {
                    true => Asks::Part(start..end.saturating_add(1).min(length)),
                    false => Asks::Nothing,
                },
                _ => Asks::All,
            }
        }
    }
}

/// What is in a folder, as a page of links.
fn page(folder: &Path) -> Answer {
    let entries =
        std::fs::read_dir(folder).and_then(|entries| entries.take(MOST).collect::<io::Result<Vec<_>>>());
    let mut names: Vec<String> = match entries {
        Ok(entries) => entries
            .iter()
            .map(|entry| {
                let name = entry.file_name().to_string_lossy().into_owned();
                if entry.file_type().is_ok_and(|kind| kind.is_dir()) { name + "/" } else { name }
            })
            .collect(),
        Err(_) => return wrong(StatusCode::INTERNAL_SERVER_ERROR, "Error reading directory"),
    };
    names.sort();
    let mut text =
        String::from("<!doctype html>\n<meta name=\"viewport\" content=\"width=device-width\">\n<pre>\n");
    for name in names {
        // A colon in the first part of a relative URL would make that a scheme.
        let before = if name.contains(':') { "./" } else { "" };
        let link = utf8_percent_encode(&name, PATH);
        text.push_str(&format!(
            "<a href=\"{before}{}\">{}</a>\n",
            escaped(&link.to_string()),
            escaped(&name)
        ));
    }
    text.push_str("</pre>\n");
    of_bytes(StatusCode::OK, "text/html; charset=utf-8", Bytes::from(text))
}

fn escaped(text: &str) -> String {
    let text = text.replace('&', "&amp;").replace('<', "&lt;").replace('>', "&gt;");
    text.replace('"', "&#34;").replace('\'', "&#39;")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn parts_are_read_as_go_reads_them() {
        for (range, asks) in [
            ("bytes=2-4", Asks::Part(2..5)),
            ("bytes=2-", Asks::Part(2..10)),
            ("bytes=-3", Asks::Part(7..10)),
            ("bytes=-30", Asks::Part(0..10)),
            ("bytes=0-99", Asks::Part(0..10)),
            ("bytes=10-", Asks::Nothing),
            ("bytes=-0", Asks::Nothing),
            ("bytes=4-2", Asks::All),
            ("bytes=0-1,3-4", Asks::All),
            ("lines=1-2", Asks::All),
            ("bytes=99999999999999999999-", Asks::All),
        ] {
            assert_eq!(part_of(range, 10), asks, "{range}");
        }
    }
}
