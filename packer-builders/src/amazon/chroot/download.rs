//! Folders of the image on their way to this computer.

use std::collections::BTreeSet;
use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};

use packer_core::kit::blocking::Stop;
use packer_core::{Error, Globs, Result};

use super::paths;

/// Copies a folder of the image, or what it contains where `source` ends with a slash; or all that a pattern in the last part of
/// `source` matches. Links are what they lead to in the image.
pub(super) fn folder(root: &Path, source: &str, to: &Path, exclude: &Globs, stop: &Stop) -> Result<()> {
    let contents = source.ends_with('/') || source.ends_with("/.");
    for start in starts(root, Path::new(source))? {
        let to = match start.file_name() {
            Some(name) if !contents => to.join(name),
            _ => to.to_owned(),
        };
        fs::create_dir_all(to.parent().unwrap_or(&to)).map_err(|e| Error::io("mkdir", &to, e))?;
        let copy = Copy { root, to: &to, exclude, stop };
        copy.all(start)?;
    }
    Ok(())
}

/// The path, or all that a pattern in its last part matches.
fn starts(root: &Path, source: &Path) -> Result<Vec<PathBuf>> {
    let failed = |e| Error::io("open", source, e);
    let here = |path: &Path| paths::inside(root, path).map_err(failed);
    let is_pattern = |name: &str| name.contains(['*', '?', '[', '{']);
    let missing = match fs::metadata(here(source)?) {
        Ok(_) => return Ok(vec![source.to_owned()]),
        Err(e) => failed(e),
    };
    let (Some(parent), Some(name)) = (source.parent(), source.file_name().and_then(|name| name.to_str()))
    else {
        return Err(missing);
    };
    if !is_pattern(name) {
        return Err(missing);
    }
    let pattern = Globs::new([name])?;
    let entries = fs::read_dir(here(parent)?).map_err(failed)?;
    let names = entries.filter_map(|entry| entry.ok().map(|entry| entry.file_name()));
    let mut found: Vec<PathBuf> =
        names.filter(|name| pattern.matches(name)).map(|name| parent.join(name)).collect();
    found.sort();
    if found.is_empty() { Err(missing) } else { Ok(found) }
}

struct Copy<'a> {
    root: &'a Path,
    to: &'a Path,
    exclude: &'a Globs,
    stop: &'a Stop,
}

impl Copy<'_> {
    fn all(&self, start: PathBuf) -> Result<()> {
        // Each with the folders that it is in: a link back into one of them would never end.
        let mut todo = vec![(start, PathBuf::new(), BTreeSet::new())];
        while let Some((path, relative, mut outer)) = todo.pop() {
            self.stop.check()?;
            let failed = |e| Error::io("download", &path, e);
            let from = paths::inside(self.root, &path).map_err(failed)?;
            let to =
                if relative.as_os_str().is_empty() { self.to.to_owned() } else { self.to.join(&relative) };
            let there = fs::symlink_metadata(&from).map_err(failed)?;
            if there.is_file() {
                let copied = fs::copy(&from, &to).and_then(|_| {
                    fs::set_permissions(&to, fs::Permissions::from_mode(there.permissions().mode() & 0o777))
                });
                copied.map_err(failed)?;
            } else if there.is_dir() {
                if !outer.insert(from.clone()) {
                    let message = format!("{} leads back into a folder that contains it", path.display());
                    return Err(Error::user(message));
                }
                fs::create_dir_all(&to).map_err(|e| Error::io("mkdir", &to, e))?;
                for entry in fs::read_dir(&from).map_err(failed)? {
                    let name = entry.map_err(failed)?.file_name();
                    let relative = relative.join(&name);
                    if !self.exclude.matches(&relative) {
                        todo.push((path.join(name), relative, outer.clone()));
                    }
                }
            } else {
                return Err(Error::user(format!("{} is neither a file nor a folder", path.display())));
            }
        }
        Ok(())
    }
}
