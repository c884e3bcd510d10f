//! Appliances of VirtualBox: the archive of one, and what a box must know of its description.

use std::fs::File;
use std::path::Path;

use packer_core::{Error, Result};

use super::contents::{Source, read_small};

/// A description is XML of a few kilobytes.
const LONGEST_DESCRIPTION: u64 = 16 << 20;

/// How many files an appliance has at most.
const MOST_FILES: usize = 10_000;

/// The files in the archive of an appliance: their names, and where in it they are.
pub(super) fn files(path: &Path) -> Result<Vec<(String, Source)>> {
    let failed = |e| Error::io("read", path, e);
    let file = File::open(path).map_err(|e| Error::io("open", path, e))?;
    let mut archive = tar::Archive::new(file);
    let mut found = Vec::new();
    for entry in archive.entries_with_seek().map_err(failed)? {
        let entry = entry.map_err(failed)?;
        if !entry.header().entry_type().is_file() {
            continue;
        }
        let name = entry.path().map_err(failed)?;
        let name = name.file_name().unwrap_or_default().to_string_lossy().into_owned();
        let (start, size) = (entry.raw_file_position(), entry.size());
        found.push((name, Source::Part { path: path.to_owned(), start, size }));
        if found.len() > MOST_FILES {
            return Err(Error::user(format!("{}: more than {MOST_FILES} files", path.display())));
        }
    }
    Ok(found)
}

/// The address of the first network card, which the box's machines get.
pub(super) fn mac_address(description: &Source) -> Result<String> {
    const ATTRIBUTE: &str = "MACAddress=\"";
    let text = read_small(description, LONGEST_DESCRIPTION)?;
    let text = String::from_utf8_lossy(&text);
    let address = text.split_once(ATTRIBUTE).and_then(|(_, rest)| rest.split_once('"'));
    let missing = || Error::user("can't find base mac address in OVF");
    address.map(|(address, _)| address.to_owned()).ok_or_else(missing)
}
