//! Images in tars: the layout of the OCI, and what `docker save` writes and `docker load` reads.

use std::collections::BTreeMap;
use std::fs::File;
use std::io::{self, Read, Seek, SeekFrom, Write};
use std::path::{Component, Path, PathBuf};

use packer_core::kit::blocking::Stop;
use packer_core::{Context, Error, Result, WholeFile};
use serde::{Deserialize, Serialize};
use tar::{EntryType, Header};

use super::config::canonical;
use super::documents::Index;
use super::image::Image;
use super::layer::{Budget, decompressed, hex, with_entries};
use super::layout::{Layout, TAG, VERSION};

/// Unpacks the parts of a layout from a tar into a folder.
pub(super) fn open_layout(file: &Path, folder: &Path, budget: &mut Budget, stop: &Stop) -> Result<Layout> {
    let blobs = folder.join("blobs/sha256");
    std::fs::create_dir_all(&blobs).map_err(|e| Error::io("mkdir", &blobs, e))?;
    with_entries(file, budget, stop, |tar| {
        while let Some(head) = tar.next()? {
            stop.check().map_err(io::Error::other)?;
            let path = String::from_utf8_lossy(&head.path).into_owned();
            let path = path.trim_start_matches("./");
            let name = path.strip_prefix("blobs/sha256/").unwrap_or_default();
            let is_blob = name.len() == 64 && name.bytes().all(|c| c.is_ascii_hexdigit());
            if head.kind == EntryType::Regular && (is_blob || path == "index.json") {
                io::copy(tar, &mut File::create(folder.join(path))?)?;
            }
        }
        Ok(())
    })?;
    if !folder.join("index.json").exists() {
        return Err(Error::user(format!(
            "{} is no archive of an OCI image: it has no index.json",
            file.display()
        )));
    }
    Ok(Layout::at(folder))
}

/// An image in a tar of `docker save`, its files put into a folder.
#[derive(Debug)]
pub(super) struct Saved {
    pub(super) config: PathBuf,
    pub(super) layers: Vec<PathBuf>,
}

#[derive(Debug, Serialize, Deserialize)]
#[serde(rename_all = "PascalCase")]
struct SavedImage {
    config: String,
    repo_tags: Option<Vec<String>>,
    layers: Vec<String>,
}

/// Unpacks the files of a tar of `docker save` into a folder, and finds the image `name`, or the only one.
pub(super) fn open_saved(
    file: &Path,
    name: Option<&str>,
    folder: &Path,
    budget: &mut Budget,
    stop: &Stop,
) -> Result<Saved> {
    let mut files: BTreeMap<PathBuf, PathBuf> = BTreeMap::new();
    let mut links: BTreeMap<PathBuf, PathBuf> = BTreeMap::new();
    with_entries(file, budget, stop, |tar| {
        while let Some(head) = tar.next()? {
            stop.check().map_err(io::Error::other)?;
            let path = cleaned(Path::new(""), &head.path);
            match head.kind {
                EntryType::Regular => {
                    // Under names of our own: theirs are only looked up.
                    let place = folder.join(files.len().to_string());
                    io::copy(tar, &mut File::create(&place)?)?;
                    files.insert(path, place);
                }
                // Layers that are the same are there once.
                EntryType::Symlink => {
                    let from = path.parent().unwrap_or(Path::new("")).to_owned();
                    links.insert(path, cleaned(&from, &head.link));
                }
                EntryType::Link => drop(links.insert(path, cleaned(Path::new(""), &head.link))),
                _ => {}
            }
        }
        Ok(())
    })?;
    let place = file.display();
    let find = |name: &str| -> Result<PathBuf> {
        let path = cleaned(Path::new(""), name.as_bytes());
        let path = links.get(&path).unwrap_or(&path);
        let found = files.get(path).cloned();
        found.ok_or_else(|| Error::user(format!("{place} is no archive of docker save: {name} is missing")))
    };
    let manifest = super::layout::read_short(&find("manifest.json")?)?;
    let images: Vec<SavedImage> = serde_json::from_slice(&manifest)
        .map_err(|e| Error::user(format!("{place} is no archive of docker save: manifest.json: {e}")))?;
    let tags = |image: &SavedImage| image.repo_tags.clone().unwrap_or_default();
    let image = match (name, &images[..]) {
        (Some(name), images) => images
            .iter()
            .find(|image| tags(image).iter().any(|tag| tag == name))
            .ok_or_else(|| Error::user(format!("{place} has no image {name}"))),
        (None, [only]) => Ok(only),
        (None, several) => {
            let names: Vec<String> = several.iter().flat_map(tags).collect();
            let names = names.join(", ");
            Err(Error::user(format!("{place} has {} images: say which ({names})", several.len())))
        }
    }?;
    Ok(Saved {
        config: find(&image.config)?,
        layers: image.layers.iter().map(|l| find(l)).collect::<Result<_>>()?,
    })
}

/// A name of a tar without `.` and `..`; it is only ever looked up.
fn cleaned(from: &Path, name: &[u8]) -> PathBuf {
    use std::os::unix::ffi::OsStrExt;
    let mut clean = from.to_owned();
    for part in Path::new(std::ffi::OsStr::from_bytes(name)).components() {
        match part {
            Component::Normal(name) => clean.push(name),
            Component::ParentDir => drop(clean.pop()),
            Component::RootDir => clean = PathBuf::new(),
            Component::CurDir | Component::Prefix(_) => {}
        }
    }
    clean
}

/// Writes a layout as a tar beside its place; committing the file puts it there.
pub(super) fn write_layout(
    cx: &Context,
    file: &Path,
    tag: Option<&str>,
    image: &Image,
    stop: &Stop,
) -> Result<WholeFile> {
    let mut descriptor = image.descriptor();
    descriptor.annotations.extend(tag.map(|tag| (TAG.to_owned(), tag.to_owned())));
    let index = Index::of(vec![descriptor]);
    let mut tar = Tar::create(cx, file, image.time)?;
    // Who unpacks it gives the files their owners, which an ordinary user can do only where they are his.
    tar.owner = (rustix::process::geteuid().as_raw().into(), rustix::process::getegid().as_raw().into());
    tar.folder("blobs/")?;
    tar.folder("blobs/sha256/")?;
    tar.bytes("oci-layout", VERSION)?;
    tar.bytes("index.json", &canonical(&index)?)?;
    let mut written = Vec::new();
    for (digest, bytes) in [(&image.config_digest, &image.config), (&image.digest, &image.manifest)] {
        tar.bytes(&format!("blobs/sha256/{}", hex(digest)), bytes)?;
        written.push(digest);
    }
    for layer in &image.layers {
        if !written.contains(&&layer.digest) {
            written.push(&layer.digest);
            let packed = File::open(&layer.file).map_err(|e| Error::io("open", &layer.file, e))?;
            tar.stream(&format!("blobs/sha256/{}", hex(&layer.digest)), &mut stop.reader(packed, None))?;
        }
    }
    tar.finish()
}

/// Writes what `docker load` reads beside its place; committing the file puts it there.
pub(super) fn write_saved(
    cx: &Context,
    file: &Path,
    name: Option<&str>,
    image: &Image,
    stop: &Stop,
) -> Result<WholeFile> {
    let mut tar = Tar::create(cx, file, image.time)?;
    let layer_name = |diff_id: &str| format!("{}.tar", hex(diff_id));
    let mut written = Vec::new();
    for layer in &image.layers {
        if written.contains(&&layer.diff_id) {
            continue;
        }
        written.push(&layer.diff_id);
        let failed = |e| Error::io("open", &layer.file, e);
        let packed = stop.reader(File::open(&layer.file).map_err(failed)?, None);
        tar.stream(&layer_name(&layer.diff_id), &mut decompressed(packed).map_err(failed)?)?;
    }
    let config = format!("{}.json", hex(&image.config_digest));
    tar.bytes(&config, &image.config)?;
    let saved = SavedImage {
        config,
        repo_tags: name.map(|name| vec![name.to_owned()]),
        layers: image.layers.iter().map(|layer| layer_name(&layer.diff_id)).collect(),
    };
    tar.bytes("manifest.json", &canonical(&[saved])?)?;
    tar.finish()
}

struct Tar {
    file: io::BufWriter<WholeFile>,
    path: PathBuf,
    at: u64,
    time: i64,
    owner: (u64, u64),
}

impl Tar {
    fn create(cx: &Context, path: &Path, time: i64) -> Result<Self> {
        if let Some(folder) = path.parent() {
            std::fs::create_dir_all(folder).map_err(|e| Error::io("mkdir", folder, e))?;
        }
        let file = io::BufWriter::with_capacity(256 * 1024, WholeFile::create(cx, path, 0o644)?);
        Ok(Self { file, path: path.to_owned(), at: 0, time, owner: (0, 0) })
    }

    fn header(&self, name: &str, size: u64) -> Result<Header> {
        let mut header = Header::new_ustar();
        header.set_path(name).map_err(|e| Error::internal(format!("{name} in a tar: {e}")))?;
        header.set_entry_type(EntryType::Regular);
        header.set_mode(0o644);
        header.set_uid(self.owner.0);
        header.set_gid(self.owner.1);
        header.set_mtime(u64::try_from(self.time).unwrap_or(0));
        header.set_size(size);
        header.set_cksum();
        Ok(header)
    }

    fn folder(&mut self, name: &str) -> Result<()> {
        let mut header = self.header(name, 0)?;
        header.set_entry_type(EntryType::Directory);
        header.set_mode(0o755);
        header.set_cksum();
        self.write(header.as_bytes())
    }

    fn write(&mut self, bytes: &[u8]) -> Result<()> {
        self.at += bytes.len() as u64;
        self.file.write_all(bytes).map_err(|e| Error::io("write", &self.path, e))
    }

    fn bytes(&mut self, name: &str, bytes: &[u8]) -> Result<()> {
        let header = self.header(name, bytes.len() as u64)?;
        self.write(header.as_bytes())?;
        self.write(bytes)?;
        self.pad()
    }

    /// Writes what has no known length: its header is written again when the length is known.
    fn stream(&mut self, name: &str, content: &mut dyn Read) -> Result<()> {
        let start = self.at;
        self.write(self.header(name, 0)?.as_bytes())?;
        let size = io::copy(content, &mut self.file).map_err(|e| Error::io("write", &self.path, e))?;
        self.at += size;
        self.pad()?;
        let header = self.header(name, size)?;
        let again = || -> io::Result<()> {
            self.file.flush()?;
            let file = self.file.get_mut().file();
            file.seek(SeekFrom::Start(start))?;
            file.write_all(header.as_bytes())?;
            file.seek(SeekFrom::Start(self.at)).map(drop)
        };
        let mut again = again;
        again().map_err(|e| Error::io("write", &self.path, e))
    }

    fn pad(&mut self) -> Result<()> {
        let over = (self.at % 512) as usize;
        if over == 0 { Ok(()) } else { self.write(&[0; 512][over..]) }
    }

    fn finish(mut self) -> Result<WholeFile> {
        self.write(&[0; 1024])?;
        let path = self.path;
        self.file.into_inner().map_err(|e| Error::io("write", &path, e.into_error()))
    }
}
