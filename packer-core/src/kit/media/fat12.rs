//! The file system of a floppy of 1440 KiB: FAT with 12 bits, and long names.
//!
//! A name that fits into eight characters and three is stored without a long one, in capitals, as by Packer.

use std::io::Write;

use crate::error::{Error, Result};

use super::iso9660::utc;
use super::names::ShortNames;
use super::tree::{Copier, Tree};

/// Also what a cluster is, by which files take room.
const SECTOR: usize = 512;
const SECTORS: u16 = 2880;
/// Each of the two tables.
const TABLE_SECTORS: usize = 9;
const ROOT_ENTRIES: usize = 224;
const ENTRY: usize = 32;
/// The boot sector, two tables and the root.
const BEFORE_DATA: usize = 1 + 2 * TABLE_SECTORS + ROOT_ENTRIES * ENTRY / SECTOR;
const CLUSTERS: usize = SECTORS as usize - BEFORE_DATA;

/// The longest label, in bytes.
pub(super) const LONGEST_LABEL: usize = 11;

const FILE: u8 = 0;
const LABEL: u8 = 0x08;
const FOLDER: u8 = 0x10;
const LONG_NAME: u8 = 0x0f;

/// Characters besides letters and digits that stand in a short name.
const SHORT: &str = "$%'-_@~`!(){}^#&";

/// How many units of UTF-16 an entry of a long name holds, and how many the longest name has.
const UNITS: usize = 13;
const LONGEST_NAME: usize = 255;

/// Writes an image. Of a longer label its first eleven characters are kept.
pub(super) fn write(tree: &Tree, label: &str, copier: &mut Copier, out: &mut dyn Write) -> Result<()> {
    let count = tree.nodes.len();
    let mut disk =
        Disk { tree, label: label_bytes(label), names: vec![Vec::new(); count], clusters: vec![0; count] };
    let mut wanted = 0;
    for (at, node) in tree.nodes.iter().enumerate() {
        if node.is_folder() {
            disk.name_children(at)?;
        }
    }
    let mut table = vec![0xff0, 0xfff];
    for (at, node) in tree.nodes.iter().enumerate() {
        let bytes = if node.is_folder() { disk.folder(at).len() as u64 } else { node.size() };
        if at == 0 {
            if bytes > (ROOT_ENTRIES * ENTRY) as u64 {
                let why = format!("{} entries, and its root has {ROOT_ENTRIES}", bytes / ENTRY as u64);
                return Err(Error::user(format!("The floppy is full: names in its root take {why}")));
            }
            continue;
        }
        let clusters = bytes.div_ceil(SECTOR as u64);
        wanted += clusters;
        if wanted <= CLUSTERS as u64 && clusters > 0 {
            let first = table.len();
            disk.clusters[at] = first as u16;
            table.extend((first + 1..first + clusters as usize).map(|next| next as u16));
            table.push(0xfff);
        }
    }
    if wanted > CLUSTERS as u64 {
        let kib = |clusters: u64| clusters as f64 * SECTOR as f64 / 1024.0;
        return Err(Error::user(format!(
            "The floppy is full: its files and folders take {} KiB, and it holds {} KiB",
            kib(wanted),
            kib(CLUSTERS as u64)
        )));
    }

    let mut put = |bytes: &[u8]| out.write_all(bytes).map_err(|e| Error::io("write", "the image", e));
    put(&disk.boot_sector())?;
    let mut packed = pack(&table);
    packed.resize(TABLE_SECTORS * SECTOR, 0);
    put(&packed)?;
    put(&packed)?;
    let mut root = disk.folder(0);
    root.resize(ROOT_ENTRIES * ENTRY, 0);
    put(&root)?;
    let mut used = 0;
    for (at, node) in tree.nodes.iter().enumerate().skip(1) {
        let size = if node.is_folder() {
            let folder = disk.folder(at);
            out.write_all(&folder).map_err(|e| Error::io("write", "the image", e))?;
            folder.len()
        } else {
            copier.copy(node, out)?;
            node.size() as usize
        };
        let whole = size.next_multiple_of(SECTOR);
        out.write_all(&vec![0; whole - size]).map_err(|e| Error::io("write", "the image", e))?;
        used += whole;
    }
    let rest = vec![0; CLUSTERS * SECTOR - used];
    out.write_all(&rest).map_err(|e| Error::io("write", "the image", e))
}

struct Disk<'a> {
    tree: &'a Tree,
    label: [u8; LONGEST_LABEL],
    /// The entries of each node's name, of which the last has its short one.
    names: Vec<Vec<[u8; ENTRY]>>,
    /// The first cluster of each node; none is 0.
    clusters: Vec<u16>,
}

impl Disk<'_> {
    /// Gives what is in a folder its names. Those that are short as they are come first: none may lose its own to a long one.
    fn name_children(&mut self, folder: usize) -> Result<()> {
        let mut short = ShortNames::default();
        let children = || self.tree.nodes[folder].children();
        let is_short = |at: usize| as_short(&self.tree.nodes[at].name);
        for at in children() {
            if let Some((stem, extension)) = is_short(at) {
                short.take(&stem, &extension);
                self.names[at] = vec![entry(&stem, &extension)];
            }
        }
        for at in children().filter(|at| is_short(*at).is_none()) {
            let name = &self.tree.nodes[at].name;
            let units: Vec<u16> = name.encode_utf16().collect();
            if units.len() > LONGEST_NAME
                || name.contains(|c: char| c.is_control() || "\"*:<>?\\|".contains(c))
            {
                return Err(Error::user(format!("{name:?} cannot be the name of a file on a floppy")));
            }
            let (stem, extension) = short.make(name, true, "~");
            let short = entry(&stem, &extension);
            let sum = short[..11].iter().fold(0u8, |sum, byte| sum.rotate_right(1).wrapping_add(*byte));
            let parts = units.chunks(UNITS).enumerate();
            let mut entries: Vec<_> = parts.map(|(number, part)| long_entry(number, part, sum)).collect();
            if let Some(last) = entries.last_mut() {
                last[0] |= 0x40;
            }
            entries.reverse();
            entries.push(short);
            self.names[at] = entries;
        }
        Ok(())
    }

    /// The entries of a folder.
    fn folder(&self, at: usize) -> Vec<u8> {
        let mut entries = Vec::new();
        if at == 0 {
            let mut label = [0; ENTRY];
            label[..LONGEST_LABEL].copy_from_slice(&self.label);
            entries.extend(self.about(0, label, LABEL));
        } else {
            entries.extend(self.about(at, entry(".", ""), FOLDER));
            entries.extend(self.about(self.tree.nodes[at].parent, entry("..", ""), FOLDER));
        }
        for child in self.tree.nodes[at].children() {
            let Some((short, long)) = self.names[child].split_last() else { continue };
            let attributes = if self.tree.nodes[child].is_folder() { FOLDER } else { FILE };
            entries.extend(long.iter().flatten());
            entries.extend(self.about(child, *short, attributes));
        }
        entries
    }

    /// An entry with what is known of its node besides the name.
    fn about(&self, at: usize, mut entry: [u8; ENTRY], attributes: u8) -> [u8; ENTRY] {
        let node = &self.tree.nodes[at];
        let (date, time) = date_and_time(node.modified);
        entry[11] = attributes;
        entry[22..24].copy_from_slice(&time.to_le_bytes());
        entry[24..26].copy_from_slice(&date.to_le_bytes());
        entry[26..28].copy_from_slice(&self.clusters[at].to_le_bytes());
        // What is larger than that does not come so far: it has no room.
        entry[28..].copy_from_slice(&(node.size() as u32).to_le_bytes());
        entry
    }

    fn boot_sector(&self) -> [u8; SECTOR] {
        let mut sector = [0; SECTOR];
        let mut put = |at: usize, bytes: &[u8]| sector[at..at + bytes.len()].copy_from_slice(bytes);
        // A jump over what follows, and the name of who formatted it: Packer gives the label.
        put(0, b"\xeb\x3c\x90");
        put(3, &self.label[..8]);
        put(11, &(SECTOR as u16).to_le_bytes());
        // Sectors of a cluster, sectors before the tables, tables.
        put(13, &[1, 1, 0, 2]);
        put(17, &(ROOT_ENTRIES as u16).to_le_bytes());
        put(19, &SECTORS.to_le_bytes());
        // The kind of medium; sectors of a table, of a track; heads.
        put(21, &[0xf0, TABLE_SECTORS as u8, 0, 18, 0, 2, 0]);
        // The number of the volume, which no two images need to have different.
        put(38, b"\x29\0\0\0\0");
        put(43, &self.label);
        put(54, b"FAT12   ");
        // Whoever boots from it hangs here.
        put(62, b"\xeb\xfe");
        put(510, b"\x55\xaa");
        sector
    }
}

fn label_bytes(label: &str) -> [u8; LONGEST_LABEL] {
    let mut bytes = [b' '; LONGEST_LABEL];
    let ascii = label.chars().map(|c| if c.is_ascii() && !c.is_ascii_control() { c as u8 } else { b'_' });
    bytes.iter_mut().zip(ascii).for_each(|(to, byte)| *to = byte);
    bytes
}

/// A name in capitals, where it is a short one then.
fn as_short(name: &str) -> Option<(String, String)> {
    let name = name.to_ascii_uppercase();
    let (stem, extension) = name.split_once('.').unwrap_or((&name, ""));
    let plain = |text: &str| text.chars().all(|c| c.is_ascii_alphanumeric() || SHORT.contains(c));
    let fits = (1..=8).contains(&stem.len()) && extension.len() <= 3 && plain(stem) && plain(extension);
    let ends_in_dot = extension.is_empty() && name.contains('.');
    (fits && !ends_in_dot).then(|| (stem.to_owned(), extension.to_owned()))
}

/// An entry with a short name alone.
fn entry(stem: &str, extension: &str) -> [u8; ENTRY] {
    let mut entry = [0; ENTRY];
    entry[..11].fill(b' ');
    entry[..8].iter_mut().zip(stem.bytes()).for_each(|(to, byte)| *to = byte);
    entry[8..11].iter_mut().zip(extension.bytes()).for_each(|(to, byte)| *to = byte);
    entry
}

/// An entry with a part of a long name.
fn long_entry(number: usize, part: &[u16], sum: u8) -> [u8; ENTRY] {
    let mut entry = [0xff; ENTRY];
    entry[0] = number as u8 + 1;
    entry[11..14].copy_from_slice(&[LONG_NAME, 0, sum]);
    entry[26..28].fill(0);
    // A name that does not fill its last entry ends with a zero.
    let units = part.iter().copied().chain([0]).take(UNITS);
    let places = (1..11).step_by(2).chain((14..26).step_by(2)).chain((28..32).step_by(2));
    places.zip(units).for_each(|(at, unit)| entry[at..at + 2].copy_from_slice(&unit.to_le_bytes()));
    entry
}

/// A table, its numbers packed by twos into three bytes.
fn pack(table: &[u16]) -> Vec<u8> {
    let pair = |pair: &[u16]| {
        let (one, two) = (pair[0], pair.get(1).copied().unwrap_or(0));
        [one as u8, (one >> 8 | two << 4) as u8, (two >> 4) as u8]
    };
    table.chunks(2).flat_map(pair).collect()
}

/// A time in UTC; years are counted from 1980 with seven bits.
fn date_and_time(seconds: i64) -> (u16, u16) {
    let t = utc(seconds);
    let year = (t.year() - 1980).clamp(0, 127) as u16;
    let date = year << 9 | (t.month() as u16) << 5 | t.day() as u16;
    let time = (t.hour() as u16) << 11 | (t.minute() as u16) << 5 | (t.second() as u16 / 2);
    (date, time)
}
