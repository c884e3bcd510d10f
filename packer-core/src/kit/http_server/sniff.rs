//! What kind of file something is, as servers written in Go say it: by its name, else by how it begins.

/// How much of a file is looked at.
pub(super) const LOOK: usize = 512;

/// The types that Go knows by itself. What a computer's own tables say is left out: a machine gets the same answer
/// everywhere.
const BY_EXTENSION: [(&str, &str); 16] = [
    ("avif", "image/avif"),
    ("css", "text/css; charset=utf-8"),
    ("gif", "image/gif"),
    ("htm", "text/html; charset=utf-8"),
    ("html", "text/html; charset=utf-8"),
    ("jpeg", "image/jpeg"),
    ("jpg", "image/jpeg"),
    ("js", "text/javascript; charset=utf-8"),
    ("json", "application/json"),
    ("mjs", "text/javascript; charset=utf-8"),
    ("pdf", "application/pdf"),
    ("png", "image/png"),
    ("svg", "image/svg+xml"),
    ("wasm", "application/wasm"),
    ("webp", "image/webp"),
    ("xml", "text/xml; charset=utf-8"),
];

/// Tags that begin a page, each followed by a blank or `>`.
const TAGS: [&str; 17] = [
    "<!doctype html",
    "<html",
    "<head",
    "<script",
    "<iframe",
    "<h1",
    "<div",
    "<font",
    "<table",
    "<a",
    "<style",
    "<title",
    "<b",
    "<body",
    "<br",
    "<p",
    "<!--",
];

/// Beginnings that are exact.
const EXACT: [(&[u8], &str); 20] = [
    (b"%PDF-", "application/pdf"),
    (b"%!PS-Adobe-", "application/postscript"),
    (b"\xfe\xff", "text/plain; charset=utf-16be"),
    (b"\xff\xfe", "text/plain; charset=utf-16le"),
    (b"\xef\xbb\xbf", "text/plain; charset=utf-8"),
    (b"\x00\x00\x01\x00", "image/x-icon"),
    (b"\x00\x00\x02\x00", "image/x-icon"),
    (b"BM", "image/bmp"),
    (b"GIF87a", "image/gif"),
    (b"GIF89a", "image/gif"),
    (b"\x89PNG\r\n\x1a\n", "image/png"),
    (b"\xff\xd8\xff", "image/jpeg"),
    (b"OggS\x00", "application/ogg"),
    (b"ID3", "audio/mpeg"),
    (b"\x1a\x45\xdf\xa3", "video/webm"),
    (b"\x1f\x8b\x08", "application/x-gzip"),
    (b"PK\x03\x04", "application/zip"),
    (b"Rar!\x1a\x07\x00", "application/x-rar-compressed"),
    (b"Rar!\x1a\x07\x01\x00", "application/x-rar-compressed"),
    (b"\x00asm", "application/wasm"),
];

/// By the name alone.
pub(super) fn by_name(name: &str) -> Option<&'static str> {
    let (_, extension) = name.rsplit_once('.')?;
    let extension = extension.to_ascii_lowercase();
    BY_EXTENSION.iter().find(|(known, _)| *known == extension).map(|(_, kind)| *kind)
}

/// By the first bytes.
pub(super) fn by_content(bytes: &[u8]) -> &'static str {
    let bytes = bytes.get(..LOOK).unwrap_or(bytes);
    let begins = bytes.trim_ascii_start();
    for tag in TAGS {
        let Some((head, rest)) = begins.split_at_checked(tag.len()) else { continue };
        if head.eq_ignore_ascii_case(tag.as_bytes())
            && (tag == "<!--" || matches!(rest.first(), Some(b' ' | b'>')))
        {
            return "text/html; charset=utf-8";
        }
    }
    if begins.starts_with(b"<?xml") {
        return "text/xml; charset=utf-8";
    }
    if let Some((_, kind)) = EXACT.iter().find(|(begin, _)| bytes.starts_with(begin)) {
        return kind;
    }
    let is_binary = |byte: &u8| matches!(byte, 0..=8 | 0xb | 0xe..=0x1a | 0x1c..=0x1f);
    if bytes.iter().any(is_binary) { "application/octet-stream" } else { "text/plain; charset=utf-8" }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn kinds_are_those_that_go_tells() {
        for (content, kind) in [
            ("", "text/plain; charset=utf-8"),
            ("{}", "text/plain; charset=utf-8"),
            ("#!/bin/sh", "text/plain; charset=utf-8"),
            ("<html></html>", "text/html; charset=utf-8"),
            ("\n <HTML lang=en>", "text/html; charset=utf-8"),
            ("<!-- x", "text/html; charset=utf-8"),
            ("<bold>", "text/plain; charset=utf-8"),
            ("<?xml version='1.0'?>", "text/xml; charset=utf-8"),
            ("%PDF-1", "application/pdf"),
            ("a\0b", "application/octet-stream"),
            ("\x1b[0m", "text/plain; charset=utf-8"),
        ] {
            assert_eq!(by_content(content.as_bytes()), kind, "{content:?}");
        }
        assert_eq!(by_content(b"\x1f\x8b\x08\x00"), "application/x-gzip");
        assert_eq!(by_name("a.JSON"), Some("application/json"));
        assert_eq!(by_name("ks.cfg"), None);
        assert_eq!(by_name("html"), None);
    }
}
