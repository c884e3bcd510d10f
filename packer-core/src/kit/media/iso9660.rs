//! ISO 9660 (ECMA-119) with Rock Ridge and Joliet: one set of files, seen through two trees of folders.
//!
//! Systems that know neither extension see names of eight and three characters. A file of 4 GiB and more has several extents.

use std::collections::{HashMap, HashSet};
use std::io::Write;

use crate::error::{Error, Result};

use super::names::ShortNames;
use super::tree::{Copier, Tree};

const SECTOR: usize = 2048;

/// The longest label of a volume, in bytes.
pub(super) const LONGEST_LABEL: usize = 32;

/// The longest name in Joliet's tree, in units of UTF-16. The standard has 64; all that read it take more.
const LONGEST_JOLIET: usize = 103;

/// The longest name in Rock Ridge, in bytes: as with file systems.
const LONGEST_NAME: usize = 255;

/// The largest part of a file: whole sectors, and counted with 32 bits.
const LARGEST_EXTENT: u64 = (1 << 32) - SECTOR as u64;

/// Writes an image.
pub(super) fn write(tree: &Tree, label: &str, copier: &mut Copier, out: &mut dyn Write) -> Result<()> {
    write_in_extents(tree, label, LARGEST_EXTENT, copier, out)
}

/// The same with another largest part of a file, so that tests need none of 4 GiB.
pub(super) fn write_in_extents(
    tree: &Tree,
    label: &str,
    largest: u64,
    copier: &mut Copier,
    out: &mut dyn Write,
) -> Result<()> {
    if let Some(long) = tree.nodes.iter().find(|node| node.name.len() > LONGEST_NAME) {
        let why = format!("its name has more than {LONGEST_NAME} bytes");
        return Err(Error::user(format!("{}: {why}", long.name)));
    }
    // Behind the system's area: two descriptors and their end.
    let mut place = Place(19);
    let mut sectors = vec![0; tree.nodes.len()];
    let mut views = Vec::new();
    for kind in [Kind::RockRidge, Kind::Joliet] {
        let mut view = View::new(tree, kind, largest);
        let table = view.path_table(u32::to_le_bytes, u16::to_le_bytes).len() as u64;
        view.tables = [place.take(table)?, place.take(table)?];
        views.push(view);
    }
    for view in &mut views {
        for at in view.order.clone() {
            // How long a folder is does not depend on where things are.
            let (records, more) = view.folder(at, &sectors);
            view.sizes[at] = u32::try_from(records.len()).map_err(|_| too_large())?;
            view.sectors[at] = place.take((records.len() + more.len()) as u64)?;
        }
    }
    for (at, node) in tree.nodes.iter().enumerate().filter(|(_, node)| !node.is_folder()) {
        sectors[at] = place.take(node.size())?;
    }
    let newest = tree.nodes.iter().map(|node| node.modified).max().unwrap_or_default();

    let mut put = |bytes: &[u8]| out.write_all(bytes).map_err(|e| Error::io("write", "the image", e));
    put(&[0; 16 * SECTOR])?;
    for view in &views {
        put(&view.descriptor(label, place.0, newest))?;
    }
    let mut end = vec![255];
    end.extend(b"CD001\x01");
    put(&whole_sectors(end))?;
    for view in &views {
        put(&whole_sectors(view.path_table(u32::to_le_bytes, u16::to_le_bytes)))?;
        put(&whole_sectors(view.path_table(u32::to_be_bytes, u16::to_be_bytes)))?;
    }
    for view in &views {
        for &at in &view.order {
            let (records, more) = view.folder(at, &sectors);
            put(&records)?;
            put(&more)?;
        }
    }
    for node in tree.nodes.iter().filter(|node| !node.is_folder()) {
        copier.copy(node, out)?;
        let rest = node.size() % SECTOR as u64;
        if rest > 0 {
            let zeros = vec![0; SECTOR - rest as usize];
            out.write_all(&zeros).map_err(|e| Error::io("write", "the image", e))?;
        }
    }
    Ok(())
}

/// The next free sector.
struct Place(u32);

impl Place {
    fn take(&mut self, bytes: u64) -> Result<u32> {
        let taken = u32::try_from(bytes.div_ceil(SECTOR as u64)).map_err(|_| too_large())?;
        let first = self.0;
        self.0 = first.checked_add(taken).ok_or_else(too_large)?;
        Ok(first)
    }
}

fn too_large() -> Error {
    Error::user("the files are more than a CD image can hold (8 TiB)")
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Kind {
    /// The primary tree: short names, and Rock Ridge's behind them.
    RockRidge,
    Joliet,
}

/// One of the two trees of folders. What stands by node is in the order of the tree's nodes.
struct View<'a> {
    tree: &'a Tree,
    kind: Kind,
    largest: u64,
    /// What each node is called here.
    ids: Vec<Vec<u8>>,
    /// What is in each folder, in the order of those names.
    children: Vec<Vec<usize>>,
    /// The folders as the path table lists them: each behind its parent, those of one parent together.
    order: Vec<usize>,
    /// The numbers of the folders in the path table.
    numbers: Vec<u16>,
    /// The first sectors of the folders, and how many bytes their records have.
    sectors: Vec<u32>,
    sizes: Vec<u32>,
    /// Where the path table is, in either order of bytes.
    tables: [u32; 2],
}

impl<'a> View<'a> {
    fn new(tree: &'a Tree, kind: Kind, largest: u64) -> Self {
        let count = tree.nodes.len();
        let mut ids = vec![Vec::new(); count];
        let mut children = vec![Vec::new(); count];
        let mut numbers = vec![0; count];
        let mut order = vec![0];
        // Grows while it is walked.
        let mut at = 0;
        while let Some(&folder) = order.get(at) {
            at += 1;
            // A tree has no more nodes than that.
            numbers[folder] = u16::try_from(at).unwrap_or(u16::MAX);
            let mut inside: Vec<usize> = tree.nodes[folder].children().collect();
            match kind {
                Kind::RockRidge => short_ids(tree, &inside, &mut ids),
                Kind::Joliet => joliet_ids(tree, &inside, &mut ids),
            }
            inside.sort_by(|a, b| ids[*a].cmp(&ids[*b]));
            order.extend(inside.iter().filter(|child| tree.nodes[**child].is_folder()));
            children[folder] = inside;
        }
        let (sectors, sizes) = (vec![0; count], vec![0; count]);
        Self { tree, kind, largest, ids, children, order, numbers, sectors, sizes, tables: [0; 2] }
    }

    fn path_table(&self, long: fn(u32) -> [u8; 4], short: fn(u16) -> [u8; 2]) -> Vec<u8> {
        let mut table = Vec::new();
        for &at in &self.order {
            let id: &[u8] = if at == 0 { &[0] } else { &self.ids[at] };
            table.extend([id.len() as u8, 0]);
            table.extend(long(self.sectors[at]));
            table.extend(short(self.numbers[self.tree.nodes[at].parent]));
            table.extend(id);
            table.resize(table.len().next_multiple_of(2), 0);
        }
        table
    }

    /// The records of a folder, and what of Rock Ridge has no room in them. Both are whole sectors, and follow each other.
    fn folder(&self, at: usize, files: &[u32]) -> (Vec<u8>, Vec<u8>) {
        let parent = self.tree.nodes[at].parent;
        let mut records = Vec::new();
        let mut more = More::default();
        for (id, folder) in [(0, at), (1, parent)] {
            let node = &self.tree.nodes[folder];
            let mut system = Vec::new();
            if self.kind == Kind::RockRidge {
                if at == 0 && id == 0 {
                    system.extend(b"SP\x07\x01\xbe\xef\0");
                }
                self.attributes(folder, &mut system);
                if at == 0 && id == 0 {
                    system.extend(b"ER\x12\x01\x0a\0\0\x01RRIP_1991A");
                }
            }
            let extent = (self.sectors[folder], self.sizes[folder]);
            add_record(&mut records, &[id], extent, FOLDER, node.modified, &system);
        }
        for &child in &self.children[at] {
            let node = &self.tree.nodes[child];
            let id = &self.ids[child];
            // Not yet known where sizes are asked for.
            let behind = self.sectors[at] + self.sizes[at] / SECTOR as u32;
            let mut system = Vec::new();
            if self.kind == Kind::RockRidge {
                self.attributes(child, &mut system);
                name_fields(&node.name, id.len(), &mut system, &mut more, behind);
            }
            if node.is_folder() {
                let extent = (self.sectors[child], self.sizes[child]);
                add_record(&mut records, id, extent, FOLDER, node.modified, &system);
                continue;
            }
            let mut sector = files[child];
            let mut left = node.size();
            loop {
                let length = left.min(self.largest);
                left -= length;
                let flags = if left > 0 { MORE_EXTENTS } else { 0 };
                // No more than the largest extent, which fits.
                add_record(&mut records, id, (sector, length as u32), flags, node.modified, &system);
                sector = sector.wrapping_add((length / SECTOR as u64) as u32);
                if left == 0 {
                    break;
                }
            }
        }
        (whole_sectors(records), whole_sectors(more.0))
    }

    /// Rock Ridge's mode, links, owner and time.
    fn attributes(&self, at: usize, system: &mut Vec<u8>) {
        let node = &self.tree.nodes[at];
        let folders = node.children().filter(|child| self.tree.nodes[*child].is_folder()).count();
        let (mode, links) = if node.is_folder() { (0o40755, 2 + folders as u32) } else { (0o100_644, 1) };
        system.extend(b"PX\x24\x01");
        for number in [mode, links, 0, 0] {
            system.extend(both(number));
        }
        system.extend(b"TF\x0c\x01\x02");
        system.extend(short_time(node.modified));
    }

    /// The descriptor of the volume.
    fn descriptor(&self, label: &str, total: u32, newest: i64) -> Vec<u8> {
        let text = |text: &str, length: usize| match self.kind {
            Kind::RockRidge => {
                let mut bytes = text.as_bytes().to_vec();
                bytes.resize(length, b' ');
                bytes
            }
            Kind::Joliet => {
                let units = text.encode_utf16().chain(std::iter::repeat(u16::from(b' ')));
                let mut bytes: Vec<u8> = units.take(length / 2).flat_map(u16::to_be_bytes).collect();
                bytes.resize(length, 0);
                bytes
            }
        };
        let mut d = vec![if self.kind == Kind::Joliet { 2 } else { 1 }];
        d.extend(b"CD001\x01\0");
        d.extend(text("", 32));
        d.extend(text(label, LONGEST_LABEL));
        d.resize(80, 0);
        d.extend(both(total));
        if self.kind == Kind::Joliet {
            // UCS-2, level 3.
            d.extend(b"%/E");
        }
        d.resize(120, 0);
        for number in [1, 1, SECTOR as u16] {
            d.extend(number.to_le_bytes());
            d.extend(number.to_be_bytes());
        }
        d.extend(both(self.path_table(u32::to_le_bytes, u16::to_le_bytes).len() as u32));
        d.extend(self.tables[0].to_le_bytes());
        d.extend([0; 4]);
        d.extend(self.tables[1].to_be_bytes());
        d.extend([0; 4]);
        let modified = self.tree.nodes[0].modified;
        add_record(&mut d, &[0], (self.sectors[0], self.sizes[0]), FOLDER, modified, &[]);
        for length in [128, 128, 128, 128, 37, 37, 37] {
            d.extend(text("", length));
        }
        let time = long_time(newest);
        // Made, changed, never out of date, in use from.
        for known in [true, true, false, false] {
            d.extend(if known { &time } else { b"0000000000000000\0" });
        }
        d.extend([1, 0]);
        whole_sectors(d)
    }
}

const FOLDER: u8 = 2;
const MORE_EXTENTS: u8 = 0x80;

/// The bytes of a record without its name.
const RECORD: usize = 33;

/// The longest record.
const LONGEST_RECORD: usize = 254;

/// Adds a record, in the next sector where this one has no room for it.
fn add_record(
    out: &mut Vec<u8>,
    id: &[u8],
    (sector, size): (u32, u32),
    flags: u8,
    modified: i64,
    system: &[u8],
) {
    let mut record = vec![0, 0];
    record.extend(both(sector));
    record.extend(both(size));
    record.extend(short_time(modified));
    record.extend([flags, 0, 0, 1, 0, 0, 1, id.len() as u8]);
    record.extend(id);
    record.resize(record.len().next_multiple_of(2), 0);
    record.extend(system);
    record.resize(record.len().next_multiple_of(2), 0);
    record[0] = record.len() as u8;
    // The one of a descriptor stands in a place of its own.
    if out.len() % SECTOR + record.len() > SECTOR {
        out.resize(out.len().next_multiple_of(SECTOR), 0);
    }
    out.extend(record);
}

/// What of Rock Ridge stands behind the records of a folder.
#[derive(Default)]
struct More(Vec<u8>);

/// Adds a name as Rock Ridge has it: to the record, or where it is too long, behind the folder's records, from the sector
/// `behind` on.
fn name_fields(name: &str, id: usize, system: &mut Vec<u8>, more: &mut More, behind: u32) {
    /// A field's length is one byte, and five are its head.
    const PART: usize = 250;
    let mut fields = Vec::new();
    let mut parts = name.as_bytes().chunks(PART).peekable();
    while let Some(part) = parts.next() {
        fields.extend(b"NM");
        fields.extend([part.len() as u8 + 5, 1, u8::from(parts.peek().is_some())]);
        fields.extend(part);
    }
    if (RECORD + id).next_multiple_of(2) + system.len() + fields.len() <= LONGEST_RECORD {
        system.extend(fields);
        return;
    }
    // Systems read them sector by sector.
    if more.0.len() % SECTOR + fields.len() > SECTOR {
        more.0.resize(more.0.len().next_multiple_of(SECTOR), 0);
    }
    system.extend(b"CE\x1c\x01");
    system.extend(both(behind.wrapping_add((more.0.len() / SECTOR) as u32)));
    system.extend(both((more.0.len() % SECTOR) as u32));
    system.extend(both(fields.len() as u32));
    more.0.extend(fields);
}

/// Gives what is in a folder names of eight and three characters.
fn short_ids(tree: &Tree, inside: &[usize], ids: &mut [Vec<u8>]) {
    let mut names = ShortNames::default();
    for &at in inside {
        let node = &tree.nodes[at];
        let (stem, extension) = names.make(&node.name, !node.is_folder(), "_");
        ids[at] = if node.is_folder() { stem.into() } else { format!("{stem}.{extension};1").into() };
    }
}

/// Gives what is in a folder the names that Joliet has: all but a few characters stay, and what is too long is cut.
fn joliet_ids(tree: &Tree, inside: &[usize], ids: &mut [Vec<u8>]) {
    let mut taken = HashSet::new();
    let mut next: HashMap<String, u32> = HashMap::new();
    for &at in inside {
        let node = &tree.nodes[at];
        let plain = |c: char| if c.is_control() || "*/:;?\\".contains(c) { '_' } else { c };
        let name: String = node.name.chars().map(plain).collect();
        let mut unique = cut(&name, LONGEST_JOLIET).to_owned();
        while !taken.insert(unique.clone()) {
            let number = next.entry(cut(&name, LONGEST_JOLIET).to_owned()).or_insert(0);
            *number += 1;
            let mark = format!("_{number}");
            unique = format!("{}{mark}", cut(&name, LONGEST_JOLIET - mark.len()));
        }
        // Without the version `;1`, which some readers show.
        ids[at] = unique.encode_utf16().flat_map(u16::to_be_bytes).collect();
    }
}

/// The beginning of a name, of at most `most` units of UTF-16.
fn cut(name: &str, most: usize) -> &str {
    let mut units = 0;
    let end = name.char_indices().find(|(_, c)| {
        units += c.len_utf16();
        units > most
    });
    end.map_or(name, |(end, _)| &name[..end])
}

/// A number in both orders of bytes.
fn both(number: u32) -> [u8; 8] {
    let [a, b, c, d] = number.to_le_bytes();
    [a, b, c, d, d, c, b, a]
}

fn whole_sectors(mut bytes: Vec<u8>) -> Vec<u8> {
    bytes.resize(bytes.len().next_multiple_of(SECTOR), 0);
    bytes
}

/// A time in UTC; what cannot be one is the beginning of 1970.
pub(super) fn utc(seconds: i64) -> jiff::civil::DateTime {
    let time = jiff::Timestamp::from_second(seconds).unwrap_or_default();
    time.to_zoned(jiff::tz::TimeZone::UTC).datetime()
}

/// The time of a record; years are counted from 1900 with a byte.
fn short_time(seconds: i64) -> [u8; 7] {
    let t = utc(seconds);
    let year = (t.year() - 1900).clamp(0, 255) as u8;
    [year, t.month() as u8, t.day() as u8, t.hour() as u8, t.minute() as u8, t.second() as u8, 0]
}

fn long_time(seconds: i64) -> [u8; 17] {
    let digits = utc(seconds).strftime("%Y%m%d%H%M%S00").to_string();
    let mut time = [0; 17];
    time.iter_mut().zip(digits.bytes()).for_each(|(to, digit)| *to = digit);
    time
}
