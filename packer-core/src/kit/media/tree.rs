//! What goes into an image: a tree of folders and files, and the bytes of the files.

use std::collections::BTreeMap;
use std::fs::{self, File, Metadata};
use std::io::{Read, Write};
use std::path::{Path, PathBuf};

use crate::context::{Context, Progress};
use crate::error::{Error, Result};
use crate::kit::blocking::Stop;
use crate::kit::whole_file::WholeFile;

/// The time of what has none on this computer: 1980-01-01, in seconds.
const EPOCH: i64 = 315_532_800;

/// How many files and folders go into an image; a CD counts its folders with 16 bits.
const MOST: usize = u16::MAX as usize;

/// How deep folders may lie in each other: more is a link that leads back into its own tree.
const DEEPEST: usize = 64;

/// How much of a file is read at once.
const CHUNK: usize = 256 * 1024;

/// Whether names that differ in case alone are the same.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Case {
    Differs,
    IsTheSame,
}

/// A tree. The first node is its root, and each stands behind the folder it is in.
#[derive(Debug)]
pub(super) struct Tree {
    pub(super) nodes: Vec<Node>,
    case: Case,
}

#[derive(Debug)]
pub(super) struct Node {
    pub(super) name: String,
    /// The folder it is in; the root is in itself.
    pub(super) parent: usize,
    /// When it was last changed, in seconds since 1970.
    pub(super) modified: i64,
    pub(super) content: Content,
}

#[derive(Debug)]
pub(super) enum Content {
    /// What is in it, in the order of names.
    Folder(BTreeMap<String, usize>),
    Text(Vec<u8>),
    File {
        path: PathBuf,
        size: u64,
    },
}

impl Node {
    pub(super) fn is_folder(&self) -> bool {
        matches!(self.content, Content::Folder(_))
    }

    /// How many bytes a file has; a folder has none.
    pub(super) fn size(&self) -> u64 {
        match &self.content {
            Content::Folder(_) => 0,
            Content::Text(text) => text.len() as u64,
            Content::File { size, .. } => *size,
        }
    }

    /// What is in a folder.
    pub(super) fn children(&self) -> impl Iterator<Item = usize> {
        let children = if let Content::Folder(children) = &self.content { Some(children) } else { None };
        children.into_iter().flat_map(|children| children.values().copied())
    }
}

/// What becomes of a file that has the name of another.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Again {
    Replaces,
    IsAnError,
}

impl Tree {
    pub(super) fn new(case: Case) -> Self {
        let content = Content::Folder(BTreeMap::new());
        Self { nodes: vec![Node { name: String::new(), parent: 0, modified: EPOCH, content }], case }
    }

    /// Adds a text.
    pub(super) fn add_text(&mut self, at: &str, text: Vec<u8>, again: Again) -> Result<()> {
        self.put(at, Content::Text(text), EPOCH, again)
    }

    /// Adds a file of this computer, or a folder with all that is in it. Links are followed.
    pub(super) fn add_path(&mut self, at: &str, path: &Path, again: Again, stop: &Stop) -> Result<()> {
        self.add_below(at, path, again, stop, 0)
    }

    fn add_below(&mut self, at: &str, path: &Path, again: Again, stop: &Stop, depth: usize) -> Result<()> {
        stop.check()?;
        let found = fs::metadata(path).map_err(|e| Error::io("stat", path, e))?;
        let modified = modified(&found);
        if found.is_file() {
            let content = Content::File { path: path.to_owned(), size: found.len() };
            return self.put(at, content, modified, again);
        }
        if !found.is_dir() {
            let why = "only files and folders can go into an image";
            return Err(Error::user(format!("{}: {why}", path.display())));
        }
        if depth == DEEPEST {
            let why = format!("more than {DEEPEST} folders in each other (does a link lead back?)");
            return Err(Error::user(format!("{}: {why}", path.display())));
        }
        self.put(at, Content::Folder(BTreeMap::new()), modified, again)?;
        for (name, path) in sorted_entries(path)? {
            self.add_below(&format!("{at}/{name}"), &path, again, stop, depth + 1)?;
        }
        Ok(())
    }

    /// Puts something at a path, in folders that are made.
    fn put(&mut self, at: &str, content: Content, modified: i64, again: Again) -> Result<()> {
        let mut folder = 0;
        let mut names = at.split('/').filter(|name| !matches!(*name, "" | ".")).peekable();
        if names.peek().is_none() && !matches!(content, Content::Folder(_)) {
            return Err(Error::user(format!("{at:?} names no file")));
        }
        let mut content = Some(content);
        while let Some(name) = names.next() {
            if name == ".." || name.contains('\0') {
                return Err(Error::user(format!("{at:?} cannot be a path in an image")));
            }
            let is_last = names.peek().is_none();
            let new = if is_last { content.take() } else { None };
            let (new, modified) = match new {
                Some(new) => (new, modified),
                None => (Content::Folder(BTreeMap::new()), EPOCH),
            };
            folder = self.child(folder, name, new, modified, again).map_err(|e| match is_last {
                true => e,
                false => e.context(at),
            })?;
        }
        Ok(())
    }

    /// The node of this name in a folder: a new one, or where there is one already, that.
    fn child(
        &mut self,
        parent: usize,
        name: &str,
        new: Content,
        modified: i64,
        again: Again,
    ) -> Result<usize> {
        let next = self.nodes.len();
        let Content::Folder(children) = &mut self.nodes[parent].content else {
            return Err(Error::user(format!("{name}: it would have to be in a file")));
        };
        let key = if self.case == Case::Differs { name.to_owned() } else { name.to_uppercase() };
        let Some(&old) = children.get(&key) else {
            if next >= MOST {
                return Err(Error::user(format!("more than {MOST} files and folders for one image")));
            }
            children.insert(key, next);
            self.nodes.push(Node { name: name.to_owned(), parent, modified, content: new });
            return Ok(next);
        };
        let node = &mut self.nodes[old];
        match (node.is_folder(), matches!(new, Content::Folder(_))) {
            (true, true) => {}
            (false, false) if again == Again::Replaces => (node.content, node.modified) = (new, modified),
            (false, false) => return Err(Error::user(format!("name already exists: {name}"))),
            _ => return Err(Error::user(format!("{name} is the name of a file and of a folder"))),
        }
        Ok(old)
    }

    /// How many bytes all files have.
    pub(super) fn size(&self) -> u64 {
        self.nodes.iter().map(Node::size).sum()
    }
}

/// What is in a folder of this computer, in the order of names.
pub(super) fn sorted_entries(folder: &Path) -> Result<Vec<(String, PathBuf)>> {
    let fail = |e| Error::io("open", folder, e);
    let mut entries = Vec::new();
    for entry in fs::read_dir(folder).map_err(fail)? {
        let path = entry.map_err(fail)?.path();
        entries.push((file_name(&path)?, path));
        if entries.len() > MOST {
            return Err(Error::user(format!("{}: more than {MOST} files and folders", folder.display())));
        }
    }
    entries.sort();
    Ok(entries)
}

/// The last name of a path, as an image can hold it.
pub(super) fn file_name(path: &Path) -> Result<String> {
    let name = path.file_name().unwrap_or_default().to_str();
    name.map(str::to_owned).ok_or_else(|| Error::user(format!("{}: its name is not UTF-8", path.display())))
}

fn modified(found: &Metadata) -> i64 {
    let since = found.modified().ok().and_then(|time| time.duration_since(std::time::UNIX_EPOCH).ok());
    since.and_then(|since| i64::try_from(since.as_secs()).ok()).unwrap_or(EPOCH)
}

/// What is to go into an image, in the order in which it was asked for.
#[derive(Debug, Clone, Default)]
pub(super) struct Parts(Vec<(String, Source)>);

#[derive(Debug, Clone)]
enum Source {
    Text(Vec<u8>),
    Path(PathBuf),
}

impl Parts {
    pub(super) fn text(&mut self, at: String, text: Vec<u8>) {
        self.0.push((at, Source::Text(text)));
    }

    pub(super) fn path(&mut self, at: String, path: PathBuf) {
        self.0.push((at, Source::Path(path)));
    }

    /// Looks at the files and puts everything in its place.
    pub(super) fn into_tree(self, case: Case, again: Again, stop: &Stop) -> Result<Tree> {
        let mut tree = Tree::new(case);
        for (at, source) in self.0 {
            match source {
                Source::Text(text) => tree.add_text(&at, text, again)?,
                Source::Path(path) => tree.add_path(&at, &path, again, stop)?,
            }
        }
        Ok(tree)
    }
}

/// Writes an image that appears whole; what makes its bytes gets the means to copy files.
pub(super) fn write_image(
    cx: &Context,
    stop: &Stop,
    path: &Path,
    tree: &Tree,
    make: impl FnOnce(&mut Copier, &mut dyn Write) -> Result<()>,
) -> Result<()> {
    // It may hold passwords.
    let mut whole = WholeFile::create(cx, path, 0o600)?;
    let progress = cx.progress(path.to_string_lossy(), Some(tree.size()));
    let mut copier = Copier { stop, progress, chunk: vec![0; CHUNK] };
    let mut out = std::io::BufWriter::with_capacity(CHUNK, whole.file());
    make(&mut copier, &mut out)?;
    out.flush().map_err(|e| Error::io("write", path, e))?;
    drop(out);
    stop.check()?;
    whole.commit()
}

/// Copies files into an image.
pub(super) struct Copier<'a> {
    stop: &'a Stop,
    progress: Progress,
    chunk: Vec<u8>,
}

impl Copier<'_> {
    /// Writes the bytes of a file: as many as it had when the image was laid out.
    pub(super) fn copy(&mut self, node: &Node, out: &mut dyn Write) -> Result<()> {
        let failed = |e| Error::io("write", &node.name, e);
        match &node.content {
            Content::Folder(_) => Ok(()),
            Content::Text(text) => {
                self.progress.advance(text.len() as u64);
                out.write_all(text).map_err(failed)
            }
            Content::File { path, size } => {
                let mut file = File::open(path).map_err(|e| Error::io("open", path, e))?;
                let mut left = *size;
                loop {
                    self.stop.check()?;
                    let read = file.read(&mut self.chunk).map_err(|e| Error::io("read", path, e))?;
                    // At the end it must be the end of both.
                    if read as u64 > left || (read == 0 && left > 0) {
                        let why = "its size changed while it was read";
                        return Err(Error::user(format!("{}: {why}", path.display())));
                    }
                    if read == 0 {
                        return Ok(());
                    }
                    left -= read as u64;
                    self.progress.advance(read as u64);
                    out.write_all(&self.chunk[..read]).map_err(failed)?;
                }
            }
        }
    }
}
