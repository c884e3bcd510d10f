//! What a build starts from, fetched and unpacked: every byte of it is checked against its digest before it counts.

use std::fs::{self, File};
use std::io::{self, Read};
use std::os::unix::fs::{FileTypeExt, MetadataExt};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use packer_core::kit::blocking::Stop;
use packer_core::kit::private_folder;
use packer_core::{Context, Error, Resource, Result};

use super::archive;
use super::config::ImageConfig;
use super::documents::Manifest;
use super::image::{Document, Platform, understand};
use super::layer::{Budget, Compression, Hashing, Layer, digest_of, hex, unpack};
use super::layout::{Layout, read_short};
use super::name::{BaseName, ImageName};
use super::reference::Reference;
use super::registry::{Repository, wrong_digest};
use super::rootfs::{Attributes, Device, Last, Rootfs, xattrs};

/// How to get at a base.
#[derive(Debug, Clone)]
pub(super) struct Request {
    pub(super) name: BaseName,
    pub(super) platform: Platform,
    pub(super) limit: Option<u64>,
    pub(super) tls_verify: bool,
    /// The digest of the image in a layout, where that is known: whatever its tag names meanwhile.
    pub(super) image: Option<String>,
}

/// A base whose content is in the tree.
#[derive(Debug, Default)]
pub(super) struct Base {
    pub(super) config: ImageConfig,
    /// Lowest first. A base that is no image has none: what it holds becomes the first layer.
    pub(super) layers: Vec<Layer>,
    /// The registry and repository it came from.
    pub(super) from: Option<(String, String)>,
}

/// A blob of a base: where it is, and what it should be.
struct Blob {
    file: PathBuf,
    digest: Option<String>,
    /// Whether the file is in the cache, and taken out where it turns out to be wrong.
    cached: bool,
}

/// The documents of an image and where its layers are.
struct Found {
    config: ImageConfig,
    blobs: Vec<Blob>,
    from: Option<(String, String)>,
}

impl Request {
    /// The digest of what the base is now.
    pub(super) async fn digest(&self, cx: &Context) -> Result<String> {
        let this = self.clone();
        match &self.name {
            BaseName::Image(ImageName::Registry(reference)) => {
                let repository = Repository::open(cx, reference, false, None, self.tls_verify).await?;
                let (bytes, digest) = repository.manifest(&wanted(reference)).await?;
                match understand(&bytes, &reference.to_string(), &self.platform)? {
                    Document::Index(digest) => Ok(digest),
                    Document::Manifest(_) => Ok(digest),
                }
            }
            _ => cx.blocking(move |stop| this.local_digest(stop)).await,
        }
    }

    fn local_digest(&self, stop: &Stop) -> Result<String> {
        match &self.name {
            BaseName::Scratch => Ok("scratch".to_owned()),
            BaseName::Rootfs(path) if path.is_dir() => digest_of_folder(path, stop),
            BaseName::Image(ImageName::Layout { folder, tag }) => {
                let image = Layout::at(folder).find(tag.as_deref(), &self.platform)?;
                Ok(image.digest.clone())
            }
            BaseName::Rootfs(file)
            | BaseName::Image(ImageName::OciArchive { file, .. } | ImageName::DockerArchive { file, .. }) => {
                let failed = |e| Error::io("open", file, e);
                let mut content = Hashing::new(stop.reader(File::open(file).map_err(failed)?, None));
                io::copy(&mut content, &mut io::sink()).map_err(failed)?;
                Ok(content.digest())
            }
            BaseName::Image(ImageName::Registry(_)) => Err(Error::internal("a registry is no local base")),
        }
    }

    /// Fetches the base and unpacks it. `work` is a folder for what is needed only meanwhile.
    pub(super) async fn unpack(&self, cx: &Context, work: &Path, rootfs: &Arc<Rootfs>) -> Result<Base> {
        let (this, work, rootfs, inner) = (self.clone(), work.to_owned(), rootfs.clone(), cx.clone());
        if let BaseName::Image(ImageName::Registry(reference)) = &self.name {
            let found = self.pull(cx, reference, &work).await?;
            return cx.blocking(move |stop| this.unpack_image(&inner, found, &rootfs, stop)).await;
        }
        cx.blocking(move |stop| {
            let mut budget = Budget::new(this.limit);
            match &this.name {
                BaseName::Scratch => Ok(this.empty()),
                BaseName::Rootfs(path) if path.is_dir() => {
                    copy_folder(path, &rootfs, stop)?;
                    Ok(this.empty())
                }
                BaseName::Rootfs(file) => {
                    unpack(&rootfs, file, false, &mut budget, stop)?;
                    Ok(this.empty())
                }
                BaseName::Image(name) => {
                    let found = this.local_image(name, &work, &mut budget, stop)?;
                    this.unpack_image(&inner, found, &rootfs, stop)
                }
            }
        })
        .await
    }

    /// Fetches the base for whoever needs its layers and no tree: nothing is unpacked.
    pub(super) async fn layers(&self, cx: &Context, work: &Path) -> Result<Base> {
        let (this, work) = (self.clone(), work.to_owned());
        if let BaseName::Image(ImageName::Registry(reference)) = &self.name {
            let found = self.pull(cx, reference, &work).await?;
            return cx.blocking(move |stop| this.packed(found, stop)).await;
        }
        cx.blocking(move |stop| match &this.name {
            BaseName::Scratch | BaseName::Rootfs(_) => Ok(this.empty()),
            BaseName::Image(name) => {
                let mut budget = Budget::new(this.limit);
                let found = this.local_image(name, &work, &mut budget, stop)?;
                this.packed(found, stop)
            }
        })
        .await
    }

    /// The layers of an image as they are packed. That they unpack to what its configuration says, whoever unpacked them for
    /// a checkpoint has seen.
    fn packed(&self, found: Found, stop: &Stop) -> Result<Base> {
        let Found { mut config, blobs, from } = found;
        let diff_ids = self.diff_ids(&config, &blobs)?;
        let mut layers = Vec::new();
        for (number, (blob, diff_id)) in blobs.into_iter().zip(diff_ids).enumerate() {
            let size = regular(&blob.file)?;
            let digest = match &blob.digest {
                // What was pulled was looked at then.
                Some(digest) if from.is_some() => digest.clone(),
                _ => file_digest(&blob.file, stop)?,
            };
            if let Some(wanted) = blob.digest.filter(|wanted| *wanted != digest) {
                return Err(wrong_digest(&format!("layer {} of the base", number + 1), &wanted, &digest));
            }
            let compression = compression_of(&blob.file)?;
            layers.push(Layer { digest, size, diff_id, compression, file: blob.file });
        }
        if config.os.is_empty() {
            config.os.clone_from(&self.platform.os);
        }
        Ok(Base { config, layers, from })
    }

    /// What the layers of an image are called unpacked.
    fn diff_ids(&self, config: &ImageConfig, blobs: &[Blob]) -> Result<Vec<String>> {
        let (told, there) = (config.rootfs.diff_ids.len(), blobs.len());
        if told != there {
            return Err(Error::user(format!(
                "the base has {there} layers, but its configuration tells of {told}"
            )));
        }
        Ok(config.rootfs.diff_ids.clone())
    }

    /// A base that is no image.
    fn empty(&self) -> Base {
        let Platform { os, architecture, variant } = self.platform.clone();
        Base {
            config: ImageConfig { os, architecture, variant, ..ImageConfig::default() },
            ..Base::default()
        }
    }

    fn local_image(&self, name: &ImageName, work: &Path, budget: &mut Budget, stop: &Stop) -> Result<Found> {
        match name {
            ImageName::Layout { folder, tag } => self.in_layout(&Layout::at(folder), tag.as_deref(), name),
            ImageName::OciArchive { file, tag } => {
                let layout = archive::open_layout(file, &work.join("base"), budget, stop)?;
                self.in_layout(&layout, tag.as_deref(), name)
            }
            ImageName::DockerArchive { file, name } => {
                let folder = work.join("base");
                fs::create_dir_all(&folder).map_err(|e| Error::io("mkdir", &folder, e))?;
                let saved = archive::open_saved(file, name.as_deref(), &folder, budget, stop)?;
                let config = ImageConfig::parse(&read_short(&saved.config)?, &file.display().to_string())?;
                let blob = |file| Blob { file, digest: None, cached: false };
                Ok(Found { config, blobs: saved.layers.into_iter().map(blob).collect(), from: None })
            }
            ImageName::Registry(_) => Err(Error::internal("a registry is no local base")),
        }
    }

    fn in_layout(&self, layout: &Layout, tag: Option<&str>, name: &ImageName) -> Result<Found> {
        let place = name.to_string();
        let mut digest = match &self.image {
            Some(image) => image.clone(),
            None => layout.find(tag, &self.platform)?.digest,
        };
        let mut depth = 0;
        let manifest = loop {
            match understand(&layout.document(&digest)?, &place, &self.platform)? {
                Document::Manifest(manifest) => break manifest,
                Document::Index(inner) if depth < 4 => (digest, depth) = (inner, depth + 1),
                Document::Index(_) => return Err(Error::user(format!("{place}: the indexes never end"))),
            }
        };
        let config = layout.document(&manifest.config.digest)?;
        let config = ImageConfig::parse(&config, &place)?;
        let blob = |digest: String| Blob { file: layout.blob(&digest), digest: Some(digest), cached: false };
        let blobs = manifest.layers.iter().map(|layer| blob(layer.digest.clone())).collect();
        Ok(Found { config, blobs, from: None })
    }

    async fn pull(&self, cx: &Context, reference: &Reference, work: &Path) -> Result<Found> {
        let place = reference.to_string();
        let repository = Repository::open(cx, reference, false, None, self.tls_verify).await?;
        let (mut bytes, _) = repository.manifest(&wanted(reference)).await?;
        let mut depth = 0;
        let manifest: Box<Manifest> = loop {
            match understand(&bytes, &place, &self.platform)? {
                Document::Manifest(manifest) => break manifest,
                Document::Index(inner) if depth < 4 => {
                    (bytes, depth) = (repository.manifest(&inner).await?.0, depth + 1)
                }
                Document::Index(_) => return Err(Error::user(format!("{place}: the indexes never end"))),
            }
        };
        let config = repository.document(&manifest.config.digest).await?;
        let config = ImageConfig::parse(&config, &place)?;
        let cache = cx.cache_dir().join("oci/blobs");
        let (folder, cached) = match private_folder(&cache) {
            Ok(()) => (cache, true),
            // Nothing stays between runs where nothing can be written.
            Err(_) => (work.to_owned(), false),
        };
        let mut blobs = Vec::new();
        for layer in &manifest.layers {
            let digest = layer.digest.clone();
            let file = folder.join(hex(&digest));
            if fs::metadata(&file).is_ok_and(|there| there.len() == layer.size) {
                let check = file.clone();
                let found = cx.blocking(move |stop| file_digest(&check, stop)).await?;
                if found == digest {
                    blobs.push(Blob { file, digest: Some(digest), cached });
                    continue;
                }
                // A cache that was spoilt is filled anew.
                fs::remove_file(&file).map_err(|e| Error::io("remove", &file, e))?;
            }
            self.fetch(cx, &repository, &digest, layer.size, &file).await?;
            blobs.push(Blob { file, digest: Some(digest), cached });
        }
        Ok(Found {
            config,
            blobs,
            from: Some((reference.registry().to_owned(), reference.repository().to_owned())),
        })
    }

    /// Fetches a blob into a file that appears when it is whole and right.
    async fn fetch(
        &self,
        cx: &Context,
        repository: &Repository,
        digest: &str,
        size: u64,
        file: &Path,
    ) -> Result<()> {
        let unique = format!("{}.{}", hex(digest), uuid_of(cx));
        let part = file.with_file_name(unique);
        let resource = Resource::file(&part);
        cx.record(resource.clone())?;
        let mut open = tokio::fs::File::create(&part).await.map_err(|e| Error::io("create", &part, e))?;
        repository.fetch(digest, size, &mut open, &part).await?;
        drop(open);
        let check = part.clone();
        let found = cx.blocking(move |stop| file_digest(&check, stop)).await?;
        if found != digest {
            let _ = fs::remove_file(&part);
            return Err(wrong_digest("a layer from the registry", digest, &found));
        }
        fs::rename(&part, file).map_err(|e| Error::io("rename", file, e))?;
        cx.released(&resource)
    }

    fn unpack_image(&self, cx: &Context, found: Found, rootfs: &Rootfs, stop: &Stop) -> Result<Base> {
        let Found { mut config, blobs, from } = found;
        let mut budget = Budget::new(self.limit);
        let diff_ids = self.diff_ids(&config, &blobs)?;
        let mut layers = Vec::new();
        for (number, (blob, diff_id)) in blobs.into_iter().zip(&diff_ids).enumerate() {
            cx.say(format!("Unpacking layer {} of {}", number + 1, diff_ids.len()));
            let size = regular(&blob.file)?;
            let unpacked = unpack(rootfs, &blob.file, true, &mut budget, stop)?;
            let place = format!("layer {} of the base", number + 1);
            if let Some(digest) = blob.digest.as_ref().filter(|digest| **digest != unpacked.digest) {
                if blob.cached {
                    let _ = fs::remove_file(&blob.file);
                }
                return Err(wrong_digest(&place, digest, &unpacked.digest));
            }
            if *diff_id != unpacked.diff_id {
                return Err(wrong_digest(&format!("{place}, unpacked,"), diff_id, &unpacked.diff_id));
            }
            let compression = compression_of(&blob.file)?;
            let (digest, diff_id) = (unpacked.digest, unpacked.diff_id);
            layers.push(Layer { digest, size, diff_id, compression, file: blob.file });
        }
        if config.os.is_empty() {
            config.os.clone_from(&self.platform.os);
        }
        Ok(Base { config, layers, from })
    }
}

/// What to ask a registry for.
fn wanted(reference: &Reference) -> String {
    reference.digest().or(reference.tag()).unwrap_or("latest").to_owned()
}

fn uuid_of(cx: &Context) -> String {
    use std::sync::atomic::{AtomicU64, Ordering};
    /// Tells several downloads of one process apart; it holds no other state.
    static NUMBER: AtomicU64 = AtomicU64::new(0);
    format!("{}-{}", cx.run_id(), NUMBER.fetch_add(1, Ordering::Relaxed))
}

/// The size of a file. Opening what is none, a pipe say, might wait for ever.
fn regular(file: &Path) -> Result<u64> {
    let there = fs::metadata(file).map_err(|e| Error::io("open", file, e))?;
    if there.is_file() {
        Ok(there.len())
    } else {
        Err(Error::user(format!("{} is no regular file", file.display())))
    }
}

pub(super) fn file_digest(file: &Path, stop: &Stop) -> Result<String> {
    let failed = |e| Error::io("read", file, e);
    let mut content = Hashing::new(stop.reader(File::open(file).map_err(failed)?, None));
    io::copy(&mut content, &mut io::sink()).map_err(failed)?;
    Ok(content.digest())
}

/// How a file is packed, by its first bytes.
fn compression_of(file: &Path) -> Result<Compression> {
    let mut start = Vec::new();
    let mut open = File::open(file).map_err(|e| Error::io("open", file, e))?;
    (&mut open).take(4).read_to_end(&mut start).map_err(|e| Error::io("read", file, e))?;
    Ok(match start[..] {
        [0x1f, 0x8b, ..] => Compression::Gzip,
        [0x28, 0xb5, 0x2f, 0xfd] => Compression::Zstd,
        _ => Compression::None,
    })
}

/// A hash over all names, kinds, attributes and contents of a folder.
fn digest_of_folder(folder: &Path, stop: &Stop) -> Result<String> {
    let mut told = String::new();
    each_in(folder, stop, |path, disk, metadata| {
        let content = if metadata.is_file() {
            file_digest(disk, stop)?
        } else if metadata.is_symlink() {
            fs::read_link(disk).map_err(|e| Error::io("read", disk, e))?.display().to_string()
        } else {
            metadata.rdev().to_string()
        };
        let xattrs = xattrs(disk).map_err(|e| Error::io("read", disk, e))?;
        let (uid, gid, mode) = (metadata.uid(), metadata.gid(), metadata.mode());
        told.push_str(&format!(
            "{path:?} {mode:o} {uid}:{gid} {} {content:?} {xattrs:?}\n",
            metadata.mtime()
        ));
        told = digest_of(told.as_bytes());
        Ok(true)
    })?;
    Ok(digest_of(told.as_bytes()))
}

/// Everything in a folder, in the order of names, folders before what they contain; the folder itself comes first.
/// `work` says whether to look into a folder.
pub(super) fn each_in(
    folder: &Path,
    stop: &Stop,
    mut work: impl FnMut(&Path, &Path, &fs::Metadata) -> Result<bool>,
) -> Result<()> {
    let mut todo = vec![PathBuf::new()];
    while let Some(path) = todo.pop() {
        stop.check()?;
        let disk = if path.as_os_str().is_empty() { folder.to_owned() } else { folder.join(&path) };
        // The folder itself may be named by a link.
        let metadata =
            if path.as_os_str().is_empty() { fs::metadata(&disk) } else { fs::symlink_metadata(&disk) };
        let metadata = metadata.map_err(|e| Error::io("open", &disk, e))?;
        if work(&path, &disk, &metadata)? && metadata.is_dir() {
            let entries = fs::read_dir(&disk).and_then(|entries| {
                entries.map(|entry| Ok(path.join(entry?.file_name()))).collect::<io::Result<Vec<_>>>()
            });
            let mut entries = entries.map_err(|e| Error::io("open", &disk, e))?;
            entries.sort_by(|a, b| b.cmp(a));
            todo.extend(entries);
        }
    }
    Ok(())
}

/// Copies a root filesystem that is a folder.
fn copy_folder(from: &Path, rootfs: &Rootfs, stop: &Stop) -> Result<()> {
    let mut copy = TreeCopy::default();
    each_in(from, stop, |path, disk, metadata| {
        let copied = copy.one(rootfs, path, disk, metadata, None, true, stop);
        copied.map(|()| true).map_err(|e| Error::io("copy", disk, e))
    })?;
    copy.finish(rootfs).map_err(|e| Error::io("copy", from, e))
}

/// Copies trees of this computer into the image, links between files kept.
#[derive(Debug, Default)]
pub(super) struct TreeCopy {
    /// Where a file with several names was copied to first.
    names: std::collections::HashMap<(u64, u64), PathBuf>,
    times: Vec<(PathBuf, i64)>,
}

impl TreeCopy {
    /// Copies one thing, a folder without what it contains. An exact copy keeps times and gives folders that are there
    /// the attributes of the original.
    #[expect(clippy::too_many_arguments, reason = "it is one call in each of two places")]
    pub(super) fn one(
        &mut self,
        rootfs: &Rootfs,
        to: &Path,
        disk: &Path,
        metadata: &fs::Metadata,
        owner: Option<(u32, u32)>,
        exact: bool,
        stop: &Stop,
    ) -> io::Result<()> {
        let (uid, gid) = owner.unwrap_or_else(|| rootfs.owner_inside(metadata));
        let mut attributes = Attributes { uid, gid, mode: metadata.mode() & 0o7777, xattrs: xattrs(disk)? };
        if owner.is_some() {
            // Whoever is given a file is not given what its owner was trusted with.
            attributes.xattrs.remove(&b"security.capability"[..]);
        }
        let kind = metadata.file_type();
        let last = if kind.is_dir() { Last::Followed } else { Last::Itself };
        let place = rootfs.find_or_make(to, last)?;
        let there = rootfs.stat(&place)?;
        if let Some(there) = &there {
            let replaced = if kind.is_dir() { !there.is_dir() } else { !kind.is_file() || there.is_dir() };
            if replaced && there.is_dir() {
                return Err(io::Error::new(
                    io::ErrorKind::IsADirectory,
                    "a folder is in its place in the image",
                ));
            }
            if replaced {
                rootfs.remove(&place)?;
            }
        }
        let mtime = exact.then_some(metadata.mtime());
        let path = place.path.clone();
        if kind.is_dir() {
            if exact || there.is_none_or(|there| !there.is_dir()) {
                rootfs.make_dir(&place, &attributes)?;
            }
            self.times.extend(mtime.map(|time| (path, time)));
            return Ok(());
        }
        if metadata.nlink() > 1 {
            let key = (metadata.dev(), metadata.ino());
            if let Some(first) = self.names.get(&key) {
                rootfs.remove(&place)?;
                return rootfs.make_hard_link(&rootfs.find(first, Last::Itself)?, &place);
            }
            self.names.insert(key, path.clone());
        }
        if kind.is_file() {
            let mut file = rootfs.new_file(place)?;
            copy_content(disk, &mut file.file, stop)?;
            return file.finish(&attributes, mtime);
        }
        if kind.is_symlink() {
            use std::os::unix::ffi::OsStrExt;
            rootfs.make_link(&place, fs::read_link(disk)?.as_os_str().as_bytes(), &attributes)?;
        } else if kind.is_fifo() {
            rootfs.make_pipe(&place, &attributes)?;
        } else if kind.is_char_device() || kind.is_block_device() {
            let (major, minor) = (rustix::fs::major(metadata.rdev()), rustix::fs::minor(metadata.rdev()));
            let block = kind.is_block_device();
            rootfs.hold_device(path, Device { block, major, minor, attributes, mtime: metadata.mtime() });
            return Ok(());
        } else {
            return Ok(()); // a socket: the way to a program that does not run in there
        }
        mtime.map_or(Ok(()), |time| rootfs.set_time(&place, time))
    }

    /// Sets the times of folders.
    pub(super) fn finish(self, rootfs: &Rootfs) -> io::Result<()> {
        for (path, time) in self.times.iter().rev() {
            rootfs.set_time(&rootfs.find(path, Last::Itself)?, *time)?;
        }
        Ok(())
    }
}

/// Copies a file; the system does it by itself where it can.
fn copy_content(disk: &Path, to: &mut File, stop: &Stop) -> io::Result<()> {
    let mut from = File::open(disk)?;
    loop {
        stop.check().map_err(io::Error::other)?;
        if io::copy(&mut (&mut from).take(64 << 20), to)? == 0 {
            return Ok(());
        }
    }
}
