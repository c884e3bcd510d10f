//! The formatter: what it writes is the same tokens with other white space, and formatting that changes nothing.
#![no_main]

use libfuzzer_sys::fuzz_target;
use packer_core::SourceFile;
use packer_core::language::fmt::format;
use packer_core::language::syntax::{TokenKind, lex};
use packer_core::template::fmt::Formatted;

/// All that has a meaning.
fn tokens(text: &str) -> Vec<(TokenKind, &str)> {
    lex(text)
        .into_iter()
        .filter(|t| !matches!(t.kind, TokenKind::Whitespace | TokenKind::Bom))
        .map(|t| (t.kind, &text[t.span.range()]))
        .collect()
}

fuzz_target!(|bytes: &[u8]| {
    let Ok(file) = Formatted::of("fuzz.pkr.hcl", bytes.to_vec()) else { return };
    let once = file.to_bytes();
    let Ok(text) = std::str::from_utf8(bytes) else {
        // Bytes that are no text are kept where they are.
        let solid = |b: &[u8]| b.iter().copied().filter(|b| !b.is_ascii_whitespace()).collect::<Vec<u8>>();
        assert_eq!(solid(&once), solid(bytes.strip_prefix("\u{feff}".as_bytes()).unwrap_or(bytes)));
        return;
    };
    let once = String::from_utf8(once).unwrap();
    assert_eq!(tokens(&once), tokens(text));
    assert_eq!(file.diff().is_empty(), once == text);
    let twice = format(&SourceFile::new("fuzz.pkr.hcl", once.as_str())).unwrap();
    assert_eq!(twice, once);
});
