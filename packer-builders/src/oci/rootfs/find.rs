//! Where a path leads inside a root folder, as the machine itself would see it: links never lead out.

use std::ffi::{OsStr, OsString};
use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::ffi::{OsStrExt, OsStringExt};
use std::path::{Component, Path, PathBuf};

use rustix::fs::{Mode, OFlags, mkdirat, openat, readlinkat};
use rustix::io::Errno;

/// As many links as Linux follows in one path.
const MOST_LINKS: usize = 40;

/// A name in an open folder; whether there is something of that name is another matter.
#[derive(Debug)]
pub(crate) struct Place {
    pub(crate) dir: OwnedFd,
    /// `.` for the root itself.
    pub(crate) name: OsString,
    /// The path from the root, without links, `.` and `..`; empty for the root.
    pub(crate) path: PathBuf,
}

/// What to do about the path's parts.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) enum Last {
    /// The last part is meant itself, even if it is a link.
    Itself,
    /// A link in the last part is followed; a link to nothing leads to where it points.
    Followed,
}

/// Walks a path part by part, each opened in the folder before it and never through a link: a link's target is put in
/// front of what is left of the path, and starts at `root` where it is absolute. `..` at the root stays there. With
/// `make`, folders that are missing on the way are made.
pub(crate) fn find(root: &OwnedFd, path: &Path, last: Last, make: bool) -> io::Result<Place> {
    let mut trail: Vec<(OwnedFd, OsString)> = Vec::new();
    let mut todo: Vec<OsString> = parts(path);
    let mut links = 0;
    while let Some(part) = todo.pop() {
        if part == ".." {
            trail.pop();
            continue;
        }
        let dir = trail.last().map_or(root.as_fd(), |(fd, _)| fd.as_fd());
        let is_last = todo.is_empty();
        if is_last && last == Last::Itself {
            return place(dir, &trail, part);
        }
        match open_dir(dir, &part) {
            Ok(fd) => trail.push((fd, part)),
            Err(Errno::NOTDIR | Errno::LOOP) => match readlinkat(dir, &part, Vec::new()) {
                Ok(target) => {
                    links += 1;
                    if links > MOST_LINKS {
                        return Err(Errno::LOOP.into());
                    }
                    let target = PathBuf::from(OsString::from_vec(target.into_bytes()));
                    if target.is_absolute() {
                        trail.clear();
                    }
                    todo.extend(parts(&target));
                }
                Err(Errno::INVAL) if is_last => return place(dir, &trail, part),
                Err(Errno::INVAL) => return Err(Errno::NOTDIR.into()),
                Err(e) => return Err(e.into()),
            },
            Err(Errno::NOENT) if is_last => return place(dir, &trail, part),
            Err(Errno::NOENT) if make => {
                mkdirat(dir, &part, Mode::from_raw_mode(0o755))?;
                let fd = open_dir(dir, &part)?;
                trail.push((fd, part));
            }
            Err(e) => return Err(e.into()),
        }
    }
    match trail.pop() {
        None => Ok(Place { dir: root.try_clone()?, name: ".".into(), path: PathBuf::new() }),
        Some((_, name)) => {
            let dir = trail.last().map_or(root.as_fd(), |(fd, _)| fd.as_fd());
            place(dir, &trail, name)
        }
    }
}

fn place(dir: BorrowedFd<'_>, trail: &[(OwnedFd, OsString)], name: OsString) -> io::Result<Place> {
    let mut path: PathBuf = trail.iter().map(|(_, name)| name).collect();
    path.push(&name);
    Ok(Place { dir: dir.try_clone_to_owned()?, name, path })
}

fn open_dir(dir: BorrowedFd<'_>, name: &OsStr) -> Result<OwnedFd, Errno> {
    let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    openat(dir, name.as_bytes(), flags, Mode::empty())
}

/// The parts of a path, the first one last.
fn parts(path: &Path) -> Vec<OsString> {
    let parts = path.components().filter_map(|part| match part {
        Component::Normal(name) => Some(name.to_owned()),
        Component::ParentDir => Some("..".into()),
        Component::RootDir | Component::CurDir | Component::Prefix(_) => None,
    });
    let mut parts: Vec<OsString> = parts.collect();
    parts.reverse();
    parts
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::symlink;

    use super::*;

    #[test]
    fn links_stay_inside() {
        let folder = tempfile::tempdir().unwrap();
        let root = folder.path().join("root");
        std::fs::create_dir_all(root.join("a/b")).unwrap();
        std::fs::create_dir_all(root.join("etc")).unwrap();
        std::fs::write(root.join("etc/f"), "inside").unwrap();
        std::fs::write(folder.path().join("f"), "outside").unwrap();
        symlink("/etc", root.join("a/absolute")).unwrap();
        symlink("../../../../..", root.join("a/up")).unwrap();
        symlink("loop", root.join("loop")).unwrap();
        symlink("a/new", root.join("dangling")).unwrap();
        let fd = OwnedFd::from(std::fs::File::open(&root).unwrap());
        let follow = |path: &str| find(&fd, Path::new(path), Last::Followed, false).map(|p| p.path);
        for (path, expected) in [
            ("/", ""),
            ("..", ""),
            ("/etc/f", "etc/f"),
            ("a/absolute/f", "etc/f"),
            ("a/b/../absolute/../etc/f", "etc/f"),
            ("a/up/etc/f", "etc/f"),
            ("a/up", ""),
            ("../../f", "f"),
            ("dangling", "a/new"),
            ("a/b/missing", "a/b/missing"),
        ] {
            assert_eq!(follow(path).unwrap(), Path::new(expected), "{path}");
        }
        assert_eq!(follow("loop").unwrap_err().raw_os_error(), Some(Errno::LOOP.raw_os_error()));
        assert!(follow("etc/f/x").is_err());
        assert!(follow("no/such").is_err());
        let itself = find(&fd, Path::new("a/absolute"), Last::Itself, false).unwrap();
        assert_eq!(itself.path, Path::new("a/absolute"));
        let made = find(&fd, Path::new("a/up/x/y/z"), Last::Itself, true).unwrap();
        assert_eq!(made.path, Path::new("x/y/z"));
        assert!(root.join("x/y").is_dir());
    }
}
