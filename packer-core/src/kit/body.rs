//! Bodies of HTTP answers that become a text or a document.

use std::fmt;
use std::io::{self, Write};

use flate2::write::MultiGzDecoder;

/// Collects the body of an answer, and decodes one that was compressed on the way. Neither what comes nor what becomes of
/// it is longer than it may be.
///
/// ```
/// use packer_core::kit::Body;
/// # fn main() -> std::io::Result<()> {
/// let mut body = Body::new(None, 1 << 20);
/// body.push(b"as it ")?;
/// body.push(b"came")?;
/// assert_eq!(body.finish()?, b"as it came");
/// # Ok(())
/// # }
/// ```
pub struct Body {
    content: Content,
    most: usize,
    /// How much has come, as it came.
    came: usize,
}

enum Content {
    Plain(Bounded),
    Gzip(Box<MultiGzDecoder<Bounded>>),
}

impl Body {
    /// For an answer with this header `Content-Encoding`, of which at most so many bytes are taken. What is encoded
    /// otherwise than with `gzip` stays as it is.
    pub fn new(encoding: Option<&str>, most: usize) -> Self {
        let bytes = Bounded { bytes: Vec::new(), most };
        let content = match encoding.is_some_and(|name| name.eq_ignore_ascii_case("gzip")) {
            true => Content::Gzip(Box::new(MultiGzDecoder::new(bytes))),
            false => Content::Plain(bytes),
        };
        Self { content, most, came: 0 }
    }

    /// Takes the next piece.
    ///
    /// # Errors
    /// [`FileTooLarge`](io::ErrorKind::FileTooLarge) where it gets too long; where it is not compressed as it should be.
    pub fn push(&mut self, piece: &[u8]) -> io::Result<()> {
        self.came = self.came.saturating_add(piece.len());
        if self.came > self.most {
            return Err(too_long(self.most));
        }
        match &mut self.content {
            Content::Plain(bytes) => bytes.write_all(piece),
            Content::Gzip(decoder) => decoder.write_all(piece),
        }
    }

    /// The whole body.
    ///
    /// # Errors
    /// As of [`push`](Self::push); where the end of it is missing.
    pub fn finish(self) -> io::Result<Vec<u8>> {
        match self.content {
            Content::Plain(bytes) => Ok(bytes.bytes),
            // Of an answer without a body nothing was compressed.
            Content::Gzip(_) if self.came == 0 => Ok(Vec::new()),
            Content::Gzip(decoder) => Ok(decoder.finish()?.bytes),
        }
    }
}

impl fmt::Debug for Body {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Body({} bytes)", self.came)
    }
}

fn too_long(most: usize) -> io::Error {
    io::Error::new(io::ErrorKind::FileTooLarge, format!("it is longer than {} MiB", most >> 20))
}

/// Bytes, and how many there may be.
struct Bounded {
    bytes: Vec<u8>,
    most: usize,
}

impl Write for Bounded {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        if bytes.len() > self.most - self.bytes.len() {
            return Err(too_long(self.most));
        }
        self.bytes.extend_from_slice(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use flate2::Compression;
    use flate2::write::GzEncoder;

    use super::*;

    fn zipped(text: &[u8]) -> Vec<u8> {
        let mut encoder = GzEncoder::new(Vec::new(), Compression::best());
        encoder.write_all(text).unwrap();
        encoder.finish().unwrap()
    }

    fn collected(encoding: Option<&str>, most: usize, pieces: &[&[u8]]) -> io::Result<Vec<u8>> {
        let mut body = Body::new(encoding, most);
        pieces.iter().try_for_each(|piece| body.push(piece))?;
        body.finish()
    }

    #[test]
    fn what_was_compressed_is_decoded() {
        let (one, two) = (zipped(b"one, "), zipped(b"two"));
        for name in ["gzip", "GZip"] {
            assert_eq!(collected(Some(name), 64, &[&one[..7], &one[7..]]).unwrap(), b"one, ");
        }
        // Several in a row are one text, wherever the pieces end.
        let both = [one.clone(), two].concat();
        let pieces: Vec<&[u8]> = both.chunks(1).collect();
        assert_eq!(collected(Some("gzip"), 64, &pieces).unwrap(), b"one, two");
        assert_eq!(collected(Some("gzip"), 64, &[]).unwrap(), b"");
        for name in [None, Some("identity"), Some("br")] {
            assert_eq!(collected(name, 64, &[&one]).unwrap(), one);
        }
        assert!(collected(Some("gzip"), 64, &[b"plain text"]).is_err());
        for cut in [1, 9, 10, 12, one.len() - 1] {
            assert!(collected(Some("gzip"), 64, &[&one[..cut]]).is_err(), "{cut} bytes of {}", one.len());
        }
    }

    #[test]
    fn neither_what_comes_nor_what_becomes_of_it_is_longer_than_it_may_be() {
        let most = 1 << 20;
        let just = vec![b'x'; most];
        assert_eq!(collected(Some("gzip"), most, &[&zipped(&just)]).unwrap(), just);
        assert_eq!(collected(None, most, &[&just]).unwrap(), just);
        let bomb = zipped(&vec![0; 100 * most]);
        assert!(bomb.len() < most);
        for (encoding, bytes) in [(Some("gzip"), &bomb), (None, &[just.clone(), vec![b'x']].concat())] {
            let error = collected(encoding, most, &[bytes]).unwrap_err();
            assert_eq!(error.kind(), io::ErrorKind::FileTooLarge);
            assert_eq!(error.to_string(), "it is longer than 1 MiB");
        }
    }
}
