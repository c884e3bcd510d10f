//! Reading tars of other people's: what is told about an entry is bounded, and attributes hold any bytes.

use std::collections::BTreeMap;
use std::io::{self, Read};

use tar::{EntryType, Header};

/// How long names and attributes of one entry may be in all, in bytes.
const LONGEST_HEAD: u64 = 1024 * 1024;

/// What a tar tells about an entry before its content.
#[derive(Debug)]
pub(crate) struct Head {
    pub(crate) kind: EntryType,
    pub(crate) path: Vec<u8>,
    /// What a link leads to.
    pub(crate) link: Vec<u8>,
    pub(crate) mode: u32,
    pub(crate) uid: u64,
    pub(crate) gid: u64,
    /// Seconds since 1970.
    pub(crate) mtime: i64,
    /// Major and minor number.
    pub(crate) device: (u32, u32),
    pub(crate) xattrs: BTreeMap<Vec<u8>, Vec<u8>>,
}

/// Reads entries one after the other; between two calls of `next` it reads the content of the one before.
#[derive(Debug)]
pub(crate) struct Reader<R> {
    inner: R,
    /// Of the present entry's content, and the bytes that fill up its last block.
    left: u64,
    padding: u64,
}

impl<R: Read> Reader<R> {
    pub(crate) fn new(inner: R) -> Self {
        Self { inner, left: 0, padding: 0 }
    }

    /// The next entry; `None` at the end.
    pub(crate) fn next(&mut self) -> io::Result<Option<Head>> {
        let mut pax: BTreeMap<Vec<u8>, Vec<u8>> = BTreeMap::new();
        loop {
            self.skip()?;
            let mut header = Header::new_old();
            if !self.read_block(header.as_mut_bytes())? || header.as_bytes().iter().all(|byte| *byte == 0) {
                return Ok(None);
            }
            check_sum(&header)?;
            let kind = header.entry_type();
            let size = header.entry_size()?;
            match kind {
                EntryType::XHeader => {
                    let told = self.told(size)?;
                    records(&told, &mut pax)?;
                }
                EntryType::GNULongName => drop(pax.insert(b"path".to_vec(), text(self.told(size)?))),
                EntryType::GNULongLink => drop(pax.insert(b"linkpath".to_vec(), text(self.told(size)?))),
                // What is said about all entries (a comment, mostly) says nothing that is needed.
                EntryType::XGlobalHeader => self.begin(size),
                EntryType::GNUSparse => return Err(wrong("sparse files in a tar are not understood")),
                _ if pax.keys().any(|key| key.starts_with(b"GNU.sparse.")) => {
                    return Err(wrong("sparse files in a tar are not understood"));
                }
                _ => return self.head(kind, &header, pax).map(Some),
            }
        }
    }

    fn head(
        &mut self,
        kind: EntryType,
        header: &Header,
        pax: BTreeMap<Vec<u8>, Vec<u8>>,
    ) -> io::Result<Head> {
        let number = |key: &str| -> io::Result<Option<u64>> {
            let Some(value) = pax.get(key.as_bytes()) else { return Ok(None) };
            let number = std::str::from_utf8(value).ok().and_then(|text| text.parse().ok());
            number.map(Some).ok_or_else(|| wrong(&format!("{key} in a tar is no number")))
        };
        // Only files have content, whatever the header says.
        let has_content = matches!(kind, EntryType::Regular | EntryType::Continuous) || !known(kind);
        let size = if has_content { number("size")?.map_or_else(|| header.entry_size(), Ok)? } else { 0 };
        self.begin(size);
        let own =
            |key: &str, field: &[u8]| pax.get(key.as_bytes()).map_or_else(|| field.to_vec(), Clone::clone);
        let mtime = pax.get(&b"mtime"[..]).and_then(|value| {
            let whole = value.split(|byte| *byte == b'.').next()?;
            std::str::from_utf8(whole).ok()?.parse().ok()
        });
        let mtime = match mtime {
            Some(mtime) => mtime,
            None => i64::try_from(header.mtime()?).unwrap_or(i64::MAX),
        };
        let device = (header.device_major().ok().flatten(), header.device_minor().ok().flatten());
        let xattr = |(key, value): (&Vec<u8>, &Vec<u8>)| {
            key.strip_prefix(b"SCHILY.xattr.").map(|name| (name.to_vec(), value.clone()))
        };
        Ok(Head {
            kind,
            path: own("path", &header.path_bytes()),
            link: own("linkpath", &header.link_name_bytes().unwrap_or_default()),
            mode: header.mode()? & 0o7777,
            uid: number("uid")?.map_or_else(|| header.uid(), Ok)?,
            gid: number("gid")?.map_or_else(|| header.gid(), Ok)?,
            mtime,
            device: (device.0.unwrap_or(0), device.1.unwrap_or(0)),
            xattrs: pax.iter().filter_map(xattr).collect(),
        })
    }

    /// Reads everything that is left, to the end of the input.
    pub(crate) fn drain(&mut self) -> io::Result<()> {
        io::copy(&mut self.inner, &mut io::sink()).map(drop)
    }

    fn begin(&mut self, size: u64) {
        self.left = size;
        self.padding = size.wrapping_neg() % 512;
    }

    fn told(&mut self, size: u64) -> io::Result<Vec<u8>> {
        if size > LONGEST_HEAD {
            return Err(wrong("the names and attributes of an entry of a tar are too long"));
        }
        self.begin(size);
        let mut told = Vec::new();
        self.read_to_end(&mut told)?;
        Ok(told)
    }

    /// Passes over what is left of the present entry.
    fn skip(&mut self) -> io::Result<()> {
        let rest = self.left.saturating_add(self.padding);
        let skipped = io::copy(&mut self.inner.by_ref().take(rest), &mut io::sink())?;
        if skipped < self.left {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
        (self.left, self.padding) = (0, 0);
        Ok(())
    }

    /// Whether there was a block; a tar may end without the empty ones.
    fn read_block(&mut self, block: &mut [u8; 512]) -> io::Result<bool> {
        let mut filled = 0;
        while filled < block.len() {
            match self.inner.read(&mut block[filled..])? {
                0 if filled == 0 => return Ok(false),
                0 => return Err(io::ErrorKind::UnexpectedEof.into()),
                read => filled += read,
            }
        }
        Ok(true)
    }
}

impl<R: Read> Read for Reader<R> {
    /// Reads the content of the present entry.
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        if self.left == 0 {
            return Ok(0);
        }
        let most = usize::try_from(self.left).unwrap_or(usize::MAX).min(buffer.len());
        let read = self.inner.read(&mut buffer[..most])?;
        if read == 0 && most > 0 {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
        self.left -= read as u64;
        Ok(read)
    }
}

fn known(kind: EntryType) -> bool {
    use EntryType::{Block, Char, Directory, Fifo, Link, Symlink};
    matches!(kind, Link | Symlink | Char | Block | Directory | Fifo)
}

fn check_sum(header: &Header) -> io::Result<()> {
    let bytes = header.as_bytes();
    let sum: u32 = bytes[..148].iter().chain(&bytes[156..]).map(|byte| u32::from(*byte)).sum();
    match header.cksum() {
        Ok(told) if told == sum + 8 * u32::from(b' ') => Ok(()),
        _ => Err(wrong("this is no tar, or a damaged one")),
    }
}

/// Without what follows a null character.
fn text(mut told: Vec<u8>) -> Vec<u8> {
    told.truncate(told.iter().position(|byte| *byte == 0).unwrap_or(told.len()));
    told
}

/// Records `LENGTH KEY=VALUE\n`.
fn records(mut told: &[u8], into: &mut BTreeMap<Vec<u8>, Vec<u8>>) -> io::Result<()> {
    let malformed = || wrong("malformed attributes in a tar");
    while !told.is_empty() {
        let space = told.iter().position(|byte| *byte == b' ').ok_or_else(malformed)?;
        let length = std::str::from_utf8(&told[..space]).ok().and_then(|text| text.parse::<usize>().ok());
        let length =
            length.filter(|length| *length > space + 1 && *length <= told.len()).ok_or_else(malformed)?;
        let (record, rest) = told.split_at(length);
        let record = record[space + 1..].strip_suffix(b"\n").ok_or_else(malformed)?;
        let equals = record.iter().position(|byte| *byte == b'=').ok_or_else(malformed)?;
        into.insert(record[..equals].to_vec(), record[equals + 1..].to_vec());
        told = rest;
    }
    Ok(())
}

fn wrong(message: &str) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, message)
}
