//! Texts that a person wrote: read within bounds, and decoded.

use std::fs;
use std::io::{self, Read};
use std::path::Path;
use std::sync::Arc;

use super::syntax::{TokenKind, lex};
use crate::diagnostic::{Diagnostic, Diagnostics, SourceFile, Span};

/// The largest file of a template, in bytes. Reading one takes several times its size in memory.
pub(crate) const LARGEST: usize = 64 << 20;

/// Whether opening a path would wait until someone opens it for writing. A pipe that has no name in the file system, as
/// a shell gives for `<(command)`, never does.
pub(crate) fn is_named_pipe(path: &Path) -> bool {
    #[cfg(unix)]
    {
        use std::os::unix::fs::FileTypeExt;
        fs::metadata(path).is_ok_and(|m| m.file_type().is_fifo()) && fs::canonicalize(path).is_ok()
    }
    #[cfg(not(unix))]
    {
        let _ = path;
        false
    }
}

/// The content of a file of at most so many bytes. Also what is no regular file, and says nothing of its size, ends
/// there.
pub(crate) fn read_bounded(path: &Path, most: usize) -> io::Result<Vec<u8>> {
    let file = fs::File::open(path)?;
    let size = file.metadata().map_or(0, |m| usize::try_from(m.len()).unwrap_or(usize::MAX));
    let mut bytes = Vec::with_capacity(size.min(most));
    file.take(most as u64 + 1).read_to_end(&mut bytes)?;
    if bytes.len() > most {
        let message = format!("it is larger than {} MiB", most >> 20);
        return Err(io::Error::new(io::ErrorKind::FileTooLarge, message));
    }
    Ok(bytes)
}

/// The text of a file that was read. One that is not UTF-8 is an error, except in comments.
pub(crate) fn decode(name: &str, bytes: Vec<u8>, diagnostics: &mut Diagnostics) -> Option<Arc<SourceFile>> {
    if bytes.len() > LARGEST {
        let most = LARGEST >> 20;
        diagnostics.push(
            Diagnostic::error("Failed to read file").detail(format!("{name:?} is larger than {most} MiB.")),
        );
        return None;
    }
    let source = match String::from_utf8(bytes) {
        Ok(text) => return Some(SourceFile::new(name, text)),
        Err(e) => SourceFile::new(name, String::from_utf8_lossy(e.as_bytes())),
    };
    let Some(at) = first_replacement(&source) else { return Some(source) };
    diagnostics.push(
        Diagnostic::error("Invalid character encoding")
            .detail(
                "All input files must be UTF-8 encoded. See to it that your editor saves this file as UTF-8.",
            )
            .at(Span::new(at, at + 3).in_source(&source)),
    );
    None
}

/// Where the first byte stood that is no UTF-8; in comments of native syntax nobody minds them.
fn first_replacement(source: &SourceFile) -> Option<u32> {
    const REPLACEMENT: char = '\u{fffd}';
    let text = source.text();
    if source.name().ends_with(".json") {
        return text.find(REPLACEMENT).map(|at| at as u32);
    }
    let tokens =
        lex(text).into_iter().filter(|t| !matches!(t.kind, TokenKind::LineComment | TokenKind::BlockComment));
    tokens
        .map(|t| t.span)
        .find_map(|span| text.get(span.range())?.find(REPLACEMENT).map(|at| span.start + at as u32))
}
