//! Files and folders that a step reads, as hashes.
//!
//! Names, kinds, permission bits, targets of links and contents count; owners and times do not. A link is hashed as what
//! it says and as what it leads to, because that is what is uploaded.

use std::ffi::OsString;
use std::fs::{self, File, Metadata};
use std::path::{Path, PathBuf};

use super::keyed::Keyed;
use crate::error::{Error, Result};
use crate::kit::blocking::Stop;

/// How many files and folders one path may stand for.
const MOST: usize = 1_000_000;

/// How deep folders may lie in each other.
const DEEPEST: usize = 256;

/// What a path was when it was read.
#[derive(Debug, Clone)]
pub(crate) struct Read {
    path: PathBuf,
    /// Changes with anything that counts.
    pub(crate) digest: String,
    /// Every file and folder with a hash of its own, in order.
    pub(crate) entries: Vec<(String, String)>,
    /// Changes with the times and sizes of the files: a cheap sign that they should be read again.
    stamp: String,
}

impl Read {
    /// Reads a file, or a folder with all that is in it.
    ///
    /// # Errors
    /// Where something cannot be read or is neither file nor folder.
    pub(crate) fn new(keyed: &Keyed, path: &Path, stop: &Stop) -> Result<Self> {
        let (mut whole, mut stamps) = (keyed.begin("tree"), keyed.begin("stamps"));
        let mut entries = Vec::new();
        walk(path, stop, &mut |found| {
            let mut hash = keyed.begin("file");
            found.describe(&mut |bytes| hash.part(bytes));
            if found.metadata.is_file() {
                let file = File::open(found.path).map_err(|e| Error::io("open", found.path, e))?;
                hash.stream(&mut stop.reader(file, None)).map_err(|e| Error::io("read", found.path, e))?;
            }
            let digest = hash.end();
            whole.part(found.relative.as_os_str().as_encoded_bytes());
            whole.part(digest.as_bytes());
            found.stamp(&mut |bytes| stamps.part(bytes));
            entries.push((found.path.to_string_lossy().into_owned(), digest));
            Ok(())
        })?;
        Ok(Self { path: path.to_owned(), digest: whole.end(), entries, stamp: stamps.end() })
    }

    /// What was read.
    pub(crate) fn path(&self) -> &PathBuf {
        &self.path
    }

    /// Whether nothing shows that the files have changed since they were read.
    pub(crate) fn is_fresh(&self, keyed: &Keyed, stop: &Stop) -> bool {
        let mut stamps = keyed.begin("stamps");
        let walked = walk(&self.path, stop, &mut |found| {
            found.stamp(&mut |bytes| stamps.part(bytes));
            Ok(())
        });
        walked.is_ok() && stamps.end() == self.stamp
    }
}

/// A file or folder on the way.
struct Found<'a> {
    path: &'a Path,
    /// Its path seen from the root; empty for the root itself.
    relative: PathBuf,
    /// Of what a link leads to.
    metadata: Metadata,
    /// What it says, where it is a link.
    link: Option<PathBuf>,
    /// It leads nowhere, or back into a folder that it lies in.
    end: Option<&'static str>,
}

impl Found<'_> {
    /// What counts of it beside the content.
    fn describe(&self, part: &mut dyn FnMut(&[u8])) {
        let kind = match self.end {
            Some(end) => end,
            None if self.metadata.is_dir() => "folder",
            None => "file",
        };
        part(kind.as_bytes());
        part(&mode(&self.metadata).to_le_bytes());
        match &self.link {
            Some(link) => part(link.as_os_str().as_encoded_bytes()),
            None => part(b""),
        }
    }

    fn stamp(&self, part: &mut dyn FnMut(&[u8])) {
        part(self.relative.as_os_str().as_encoded_bytes());
        self.describe(part);
        part(&self.metadata.len().to_le_bytes());
        let modified = self.metadata.modified().ok();
        let since = modified.and_then(|t| t.duration_since(std::time::UNIX_EPOCH).ok()).unwrap_or_default();
        part(&since.as_nanos().to_le_bytes());
        #[cfg(unix)]
        {
            use std::os::unix::fs::MetadataExt;
            let unix = &self.metadata;
            for number in [unix.ctime(), unix.ctime_nsec(), unix.ino() as i64, unix.dev() as i64] {
                part(&number.to_le_bytes());
            }
        }
    }
}

/// Visits a path and all that is below it, each folder before what it contains, in the order of the names.
fn walk(root: &Path, stop: &Stop, visit: &mut dyn FnMut(&Found<'_>) -> Result<()>) -> Result<()> {
    // Each with the real paths of the folders around it.
    let mut waiting: Vec<(PathBuf, PathBuf, Vec<PathBuf>)> =
        vec![(root.to_owned(), PathBuf::new(), Vec::new())];
    let mut seen = 0;
    while let Some((path, relative, around)) = waiting.pop() {
        stop.check()?;
        seen += 1;
        if seen > MOST || around.len() > DEEPEST {
            return Err(Error::user(format!("{} holds too much to be looked through", root.display())));
        }
        let own = fs::symlink_metadata(&path).map_err(|e| Error::io("stat", &path, e))?;
        let link = match own.is_symlink() {
            true => Some(fs::read_link(&path).map_err(|e| Error::io("readlink", &path, e))?),
            false => None,
        };
        let mut found = Found { path: &path, relative, metadata: own, link, end: None };
        if found.link.is_some() {
            match fs::metadata(&path) {
                Ok(metadata) => found.metadata = metadata,
                // The root itself must be there to be read.
                Err(e) if found.relative.as_os_str().is_empty() => return Err(Error::io("stat", &path, e)),
                Err(_) => found.end = Some("nowhere"),
            }
        }
        let metadata = &found.metadata;
        if found.end.is_none() && !metadata.is_file() && !metadata.is_dir() {
            return Err(Error::user(format!("{} is neither a file nor a folder", path.display())));
        }
        let mut inside = around;
        if found.end.is_none() && metadata.is_dir() {
            let real = fs::canonicalize(&path).map_err(|e| Error::io("open", &path, e))?;
            match inside.contains(&real) {
                true => found.end = Some("back"),
                false => inside.push(real),
            }
        }
        visit(&found)?;
        if found.end.is_none() && found.metadata.is_dir() {
            for name in names(&path)?.into_iter().rev() {
                waiting.push((path.join(&name), found.relative.join(&name), inside.clone()));
            }
        }
    }
    Ok(())
}

/// The permission bits, where the system has them.
fn mode(metadata: &Metadata) -> u32 {
    #[cfg(unix)]
    {
        std::os::unix::fs::PermissionsExt::mode(&metadata.permissions()) & 0o7777
    }
    #[cfg(not(unix))]
    {
        u32::from(metadata.permissions().readonly())
    }
}

fn names(folder: &Path) -> Result<Vec<OsString>> {
    let failed = |e| Error::io("open", folder, e);
    let mut names = Vec::new();
    for entry in fs::read_dir(folder).map_err(failed)? {
        names.push(entry.map_err(failed)?.file_name());
    }
    names.sort();
    Ok(names)
}

#[cfg(test)]
#[cfg(unix)]
mod tests {
    use std::os::unix::fs::{PermissionsExt, symlink};

    use super::*;
    use crate::testing::{Bench, TempFolder};

    async fn read(path: &Path) -> Result<Read> {
        let path = path.to_owned();
        let keyed = Keyed::new(b"k").unwrap();
        Bench::new().context().blocking(move |stop| Read::new(&keyed, &path, stop)).await
    }

    async fn digest(path: &Path) -> String {
        read(path).await.unwrap().digest
    }

    #[tokio::test]
    async fn everything_that_counts_changes_the_hash() {
        let folder = TempFolder::new();
        let root = folder.path().join("conf");
        fs::create_dir_all(root.join("sub")).unwrap();
        fs::write(root.join("sub/a"), "1").unwrap();
        symlink("sub/a", root.join("l")).unwrap();
        let mut seen = vec![digest(&root).await];
        assert_eq!(digest(&root).await, seen[0]);
        let change = |what: &str| match what {
            "content" => fs::write(root.join("sub/a"), "2").unwrap(),
            "mode" => fs::set_permissions(root.join("sub/a"), fs::Permissions::from_mode(0o700)).unwrap(),
            "name" => fs::rename(root.join("sub/a"), root.join("sub/b")).unwrap(),
            "folder" => fs::create_dir(root.join("empty")).unwrap(),
            "link" => {
                fs::remove_file(root.join("l")).unwrap();
                symlink("sub/c", root.join("l")).unwrap();
            }
            _ => unreachable!(),
        };
        for what in ["content", "mode", "name", "folder", "link"] {
            change(what);
            let now = digest(&root).await;
            assert!(!seen.contains(&now), "{what}");
            seen.push(now);
        }
        // What a link leads to counts although it lies elsewhere.
        let outside = folder.path().join("outside");
        fs::write(&outside, "1").unwrap();
        symlink(&outside, root.join("out")).unwrap();
        let before = digest(&root).await;
        fs::write(&outside, "2").unwrap();
        assert_ne!(digest(&root).await, before);
    }

    #[tokio::test]
    async fn loops_end_and_what_is_no_file_is_refused() {
        let folder = TempFolder::new();
        let root = folder.path().join("r");
        fs::create_dir_all(root.join("a/b")).unwrap();
        symlink("../..", root.join("a/b/up")).unwrap();
        symlink("self", root.join("self")).unwrap();
        let found = read(&root).await.unwrap();
        assert_eq!(found.entries.len(), 5, "{:?}", found.entries);
        assert!(read(&folder.path().join("missing")).await.is_err());
        let socket = folder.path().join("socket");
        let _listening = std::os::unix::net::UnixListener::bind(&socket).unwrap();
        let error = read(&socket).await.unwrap_err();
        assert!(error.message().ends_with("is neither a file nor a folder"), "{error}");
    }

    #[tokio::test]
    async fn a_stamp_tells_that_a_file_was_written() {
        let folder = TempFolder::new();
        let file = folder.path().join("f");
        fs::write(&file, "same size").unwrap();
        let found = read(&file).await.unwrap();
        let keyed = Keyed::new(b"k").unwrap();
        let fresh = |found: Read| {
            let keyed = keyed.clone();
            async move {
                Bench::new().context().blocking(move |stop| Ok(found.is_fresh(&keyed, stop))).await.unwrap()
            }
        };
        assert!(fresh(found.clone()).await);
        std::thread::sleep(std::time::Duration::from_millis(20));
        fs::write(&file, "SAME SIZE").unwrap();
        assert!(!fresh(found).await);
    }
}
