//! Paths of the image on this computer. A link in the image leads to what it leads to there, and so to nothing outside of it.

use std::ffi::OsString;
use std::io;
use std::path::{Component, Path, PathBuf};

/// How many links a path may lead through.
const MOST_LINKS: usize = 40;

/// Where a path of the image is, its links followed. What is not there yet, or cannot be seen, is taken by its name.
pub(super) fn inside(root: &Path, path: &Path) -> io::Result<PathBuf> {
    let (mut at, mut todo, mut links) = (PathBuf::new(), parts(path), 0);
    while let Some(part) = todo.pop() {
        match part {
            Part::Root => at = PathBuf::new(),
            Part::Up => drop(at.pop()),
            Part::Name(name) => {
                let next = at.join(name);
                match std::fs::read_link(root.join(&next)) {
                    Ok(_) if links == MOST_LINKS => {
                        return Err(io::Error::other("it leads through too many links"));
                    }
                    Ok(target) => {
                        links += 1;
                        todo.extend(parts(&target));
                    }
                    Err(_) => at = next,
                }
            }
        }
    }
    Ok(root.join(at))
}

/// The same for the folder that a path is in; its last part is taken by its name.
pub(super) fn beside(root: &Path, path: &Path) -> io::Result<PathBuf> {
    let folder = inside(root, path.parent().unwrap_or(Path::new("/")))?;
    Ok(path.file_name().map_or(folder.clone(), |name| folder.join(name)))
}

enum Part {
    Root,
    Up,
    Name(OsString),
}

/// The parts of a path, the first at the end.
fn parts(path: &Path) -> Vec<Part> {
    let part = |part| match part {
        Component::RootDir | Component::Prefix(_) => Some(Part::Root),
        Component::ParentDir => Some(Part::Up),
        Component::CurDir => None,
        Component::Normal(name) => Some(Part::Name(name.to_owned())),
    };
    path.components().rev().filter_map(part).collect()
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::symlink;

    use super::*;
    use packer_core::testing::Bench;

    #[test]
    fn links_stay_in_the_image() {
        let bench = Bench::new();
        let root = bench.folder();
        std::fs::create_dir_all(root.join("run/resolve")).unwrap();
        std::fs::create_dir_all(root.join("etc")).unwrap();
        symlink("/run/resolve/stub.conf", root.join("etc/resolv.conf")).unwrap();
        symlink("../../../..", root.join("etc/up")).unwrap();
        symlink("/etc", root.join("conf")).unwrap();
        symlink("loop", root.join("loop")).unwrap();
        let at = |path: &str| inside(root, Path::new(path)).unwrap();
        assert_eq!(at("/etc/resolv.conf"), root.join("run/resolve/stub.conf"));
        assert_eq!(at("conf/resolv.conf"), root.join("run/resolve/stub.conf"));
        assert_eq!(at("/etc/up/passwd"), root.join("passwd"));
        assert_eq!(at("/../../etc/../new/./file"), root.join("new/file"));
        assert_eq!(at("/"), root.to_owned());
        assert!(inside(root, Path::new("/loop/x")).is_err());
        // The name itself may be a link: it is what is replaced.
        assert_eq!(beside(root, Path::new("/conf/resolv.conf")).unwrap(), root.join("etc/resolv.conf"));
    }
}
