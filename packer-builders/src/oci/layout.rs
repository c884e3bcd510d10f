//! Image layouts: folders that hold images as the OCI says. What is written into one appears whole, and several
//! builds, of several processes, may write into one at once.

use std::collections::BTreeSet;
use std::fs::{self, File};
use std::io::{self, Read, Write};
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime};

use packer_core::kit::blocking::Stop;
use packer_core::{Context, Error, Resource, Result, WholeFile};
use serde::{Deserialize, Serialize};

use super::config::canonical;
use super::documents::{Descriptor, Index, Manifest};
use super::image::{Image, Platform, checked, pick};
use super::layer::{digest_of, hex, is_digest};
use super::registry::{LONGEST_DOCUMENT, wrong_digest};

pub(super) const TAG: &str = "org.opencontainers.image.ref.name";
pub(super) const VERSION: &[u8] = br#"{"imageLayoutVersion":"1.0.0"}"#;

/// A folder in which images are.
#[derive(Debug, Clone)]
pub(super) struct Layout {
    folder: PathBuf,
}

/// What releasing an image in a layout needs to know.
#[derive(Debug, Clone, Serialize, Deserialize)]
struct Written {
    folder: PathBuf,
    tag: Option<String>,
    digest: String,
    /// The blobs that were not there before.
    blobs: Vec<String>,
    /// Whether the layout itself was not there before.
    new: bool,
    /// What had the tag before.
    previous: Option<Descriptor>,
    /// The time of the manifest's file when the image got its name. Whoever gives an image of the same content a name sets
    /// that time anew; from then on it is not this one's to take out. `None` as long as it has no name.
    #[serde(default)]
    claim: Option<Claim>,
    /// That time before.
    #[serde(default)]
    previous_claim: Option<Claim>,
}

/// When a file was changed last: seconds since 1970 and billionths.
type Claim = (u64, u32);

impl Layout {
    pub(super) fn at(folder: impl Into<PathBuf>) -> Self {
        Self { folder: folder.into() }
    }

    /// Where a blob is. `digest` is known to be one.
    pub(super) fn blob(&self, digest: &str) -> PathBuf {
        self.folder.join("blobs/sha256").join(hex(digest))
    }

    fn place(&self) -> String {
        self.folder.display().to_string()
    }

    fn index(&self) -> Result<Index> {
        let path = self.folder.join("index.json");
        let bytes = read_short(&path)?;
        serde_json::from_slice(&bytes).map_err(|e| Error::user(format!("{}: {e}", path.display())))
    }

    /// What a tag names; without one, the only image.
    pub(super) fn find(&self, tag: Option<&str>, platform: &Platform) -> Result<Descriptor> {
        let index = self.index()?;
        let images: Vec<Descriptor> = match tag {
            Some(tag) => index.manifests.iter().filter(|image| tag_of(image) == Some(tag)).cloned().collect(),
            None => index.manifests.clone(),
        };
        let place = self.place();
        match (&images[..], tag) {
            ([], Some(tag)) => Err(Error::user(format!("{place} has no image with the tag {tag:?}"))),
            ([], None) => Err(Error::user(format!("{place} has no image"))),
            ([only], _) => checked(only, &place).map(|()| only.clone()),
            (several, _) => pick(several, &place, platform).cloned(),
        }
    }

    /// A small blob, its digest checked.
    pub(super) fn document(&self, digest: &str) -> Result<Vec<u8>> {
        let path = self.blob(digest);
        let bytes = read_short(&path)?;
        let found = digest_of(&bytes);
        if found == digest {
            Ok(bytes)
        } else {
            Err(wrong_digest(&path.display().to_string(), digest, &found))
        }
    }

    /// Puts everything of an image into the folder but its name; what names it is the second step, [`Self::name`].
    pub(super) fn put(
        &self,
        cx: &Context,
        image: &Image,
        tag: Option<&str>,
        stop: &Stop,
    ) -> Result<Resource> {
        let folder = std::path::absolute(&self.folder).map_err(|e| Error::io("open", &self.folder, e))?;
        let new = !folder.join("oci-layout").exists();
        let digests =
            image.layers.iter().map(|layer| &layer.digest).chain([&image.config_digest, &image.digest]);
        let blobs = digests.filter(|digest| !self.blob(digest).exists()).cloned().collect();
        let digest = image.digest.clone();
        let written = Written {
            folder,
            tag: tag.map(str::to_owned),
            digest,
            blobs,
            new,
            previous: None,
            claim: None,
            previous_claim: None,
        };
        let name = format!("oci:{}{}", self.place(), tag.map(|tag| format!(":{tag}")).unwrap_or_default());
        let resource = Resource::new("image", name);
        cx.record(resource.clone().with_details(details(&written)?))?;
        let blobs = self.folder.join("blobs/sha256");
        fs::create_dir_all(&blobs).map_err(|e| Error::io("mkdir", &blobs, e))?;
        let _lock = self.lock(cx, stop)?;
        self.put_blobs(cx, image, stop)?;
        Ok(resource.with_details(details(&written)?))
    }

    /// Gives the image that was put its name; from here on it is there.
    pub(super) fn name(
        &self,
        cx: &Context,
        image: &Image,
        resource: &Resource,
        stop: &Stop,
    ) -> Result<Resource> {
        let mut written = written(resource)?;
        let _lock = self.lock(cx, stop)?;
        // Whoever cleaned up meanwhile may have taken what only this build knew of.
        self.put_blobs(cx, image, stop)?;
        let path = self.folder.join("index.json");
        let mut index = if path.exists() { self.index()? } else { Index::of(Vec::new()) };
        let mut descriptor = image.descriptor();
        descriptor.annotations.extend(written.tag.clone().map(|tag| (TAG.to_owned(), tag)));
        let mut images = index.manifests.clone();
        let same = |other: &Descriptor| match &written.tag {
            Some(tag) => tag_of(other) == Some(tag),
            // Without a name an image stands for itself, and once.
            None => tag_of(other).is_none() && other.digest == descriptor.digest,
        };
        written.previous = images.iter().find(|other| same(other)).cloned();
        (written.previous_claim, written.claim) = self.claim(cx, image)?;
        images.retain(|other| !same(other));
        images.push(descriptor);
        index.manifests = images;
        let resource = resource.clone().with_details(details(&written)?);
        cx.record(resource.clone())?;
        self.write_index(cx, &index)?;
        Ok(resource)
    }

    /// Gives an image that has its name another tag; the tag goes back to what had it before.
    pub(super) fn rename(
        &self,
        cx: &Context,
        resource: &Resource,
        tag: String,
        stop: &Stop,
    ) -> Result<Resource> {
        let mut written = written(resource)?;
        let _lock = self.lock(cx, stop)?;
        let mut index = self.index()?;
        let mut images = index.manifests.clone();
        let own =
            |image: &Descriptor| tag_of(image) == written.tag.as_deref() && image.digest == written.digest;
        let gone = || Error::user(format!("{resource} is not there any more"));
        let at = images.iter().position(own).ok_or_else(gone)?;
        let mut kept = images[at].clone();
        kept.annotations.insert(TAG.to_owned(), tag.clone());
        match written.previous.take() {
            Some(previous) => images[at] = previous,
            None => drop(images.remove(at)),
        }
        written.previous = images.iter().find(|other| tag_of(other) == Some(&tag)).cloned();
        images.retain(|other| tag_of(other) != Some(&tag));
        images.push(kept);
        index.manifests = images;
        // Whoever releases the first name may not take the image: it is claimed anew.
        let manifest = self.blob(&written.digest);
        let file = fs::OpenOptions::new().write(true).open(&manifest);
        let set = file.and_then(|file| file.set_modified(SystemTime::now()));
        set.map_err(|e| Error::io("write", &manifest, e))?;
        written.claim = claim_of(&manifest);
        let name = format!("oci:{}:{tag}", self.place());
        written.tag = Some(tag);
        let renamed = Resource::new("image", name).with_details(details(&written)?);
        cx.record(renamed.clone())?;
        self.write_index(cx, &index)?;
        Ok(renamed)
    }

    /// Makes the manifest's file anew; its time before and now.
    fn claim(&self, cx: &Context, image: &Image) -> Result<(Option<Claim>, Option<Claim>)> {
        let path = self.blob(&image.digest);
        let before = claim_of(&path);
        let mut file = WholeFile::create(cx, &path, 0o644)?;
        let written = file.write_all(&image.manifest);
        // Set by hand: the system's own times may be the same for some milliseconds.
        written
            .and_then(|()| file.file().set_modified(SystemTime::now()))
            .map_err(|e| Error::io("write", &path, e))?;
        file.commit()?;
        Ok((before, claim_of(&path)))
    }

    fn write_index(&self, cx: &Context, index: &Index) -> Result<()> {
        write_whole(cx, &self.folder.join("index.json"), &canonical(index)?)
    }

    fn put_blobs(&self, cx: &Context, image: &Image, stop: &Stop) -> Result<()> {
        for layer in &image.layers {
            stop.check()?;
            let path = self.blob(&layer.digest);
            if path.exists() {
                continue;
            }
            // One file with two names saves the copy; not everything can be linked to everywhere.
            if fs::hard_link(&layer.file, &path).is_err() {
                let mut from = stop.reader(
                    File::open(&layer.file).map_err(|e| Error::io("open", &layer.file, e))?,
                    Some(cx.progress(path.display().to_string(), Some(layer.size))),
                );
                let mut whole = WholeFile::create(cx, &path, 0o644)?;
                io::copy(&mut from, &mut whole).map_err(|e| Error::io("write", &path, e))?;
                whole.commit()?;
            } else {
                let synced = File::open(&path).and_then(|file| file.sync_all());
                synced.map_err(|e| Error::io("sync", &path, e))?;
            }
        }
        for (digest, bytes) in [(&image.config_digest, &image.config), (&image.digest, &image.manifest)] {
            let path = self.blob(digest);
            if !path.exists() {
                write_whole(cx, &path, bytes)?;
            }
        }
        sync_folder(&self.folder.join("blobs/sha256"))
    }

    /// Waits until no other build changes this layout.
    fn lock(&self, cx: &Context, stop: &Stop) -> Result<File> {
        let path = self.folder.join("oci-layout");
        if !path.exists() {
            write_whole(cx, &path, VERSION)?;
        }
        lock(&path, stop)
    }
}

fn lock(path: &Path, stop: &Stop) -> Result<File> {
    let failed = |e| Error::io("lock", path, e);
    let file = open_file(path).map_err(failed)?;
    loop {
        match file.try_lock() {
            Ok(()) => return Ok(file),
            Err(fs::TryLockError::WouldBlock) => {
                stop.check()?;
                std::thread::sleep(Duration::from_millis(20));
            }
            Err(fs::TryLockError::Error(e)) => return Err(failed(e)),
        }
    }
}

/// Takes an image out of its layout again: the tag goes back to what had it before, and blobs that came with the
/// image and nothing refers to are removed.
pub(super) fn release(cx: &Context, resource: &Resource, stop: &Stop) -> Result<()> {
    let written = written(resource)?;
    if !is_digest(&written.digest) {
        return Err(Error::internal(format!("{resource} is not removed: {:?} is no digest", written.digest)));
    }
    let layout = Layout::at(&written.folder);
    let marker = written.folder.join("oci-layout");
    if !marker.exists() {
        return Ok(());
    }
    let _lock = lock(&marker, stop)?;
    let index_path = written.folder.join("index.json");
    let mut index = if index_path.exists() { layout.index()? } else { Index::of(Vec::new()) };
    let mut images = index.manifests.clone();
    let own = |image: &Descriptor| tag_of(image) == written.tag.as_deref() && image.digest == written.digest;
    let manifest = layout.blob(&written.digest);
    let claimed = written.claim.is_some() && written.claim == claim_of(&manifest);
    if let Some(at) = images.iter().position(own).filter(|_| claimed) {
        match &written.previous {
            Some(previous) => images[at] = previous.clone(),
            None => drop(images.remove(at)),
        }
        let is_another = images.iter().any(|image| image.digest == written.digest);
        if let (true, Some(claim)) = (is_another, written.previous_claim) {
            // It is whose it was again.
            let file = fs::OpenOptions::new().write(true).open(&manifest);
            let set = file.and_then(|file| file.set_modified(time_of(claim)));
            set.map_err(|e| Error::io("write", &manifest, e))?;
        }
        index.manifests = images;
        layout.write_index(cx, &index)?;
    }
    let mut reached = BTreeSet::new();
    if layout.reach(&index.manifests, &mut reached).is_ok() {
        for digest in written.blobs.iter().filter(|digest| is_digest(digest) && !reached.contains(*digest)) {
            let path = layout.blob(digest);
            match fs::remove_file(&path) {
                Err(e) if e.kind() != io::ErrorKind::NotFound => return Err(Error::io("remove", &path, e)),
                _ => {}
            }
        }
    }
    if written.new && index.manifests.is_empty() {
        // Only what is empty goes: somebody else may have put something there.
        let folder = &written.folder;
        if fs::remove_dir(folder.join("blobs/sha256")).is_ok() {
            let _ = fs::remove_file(&index_path);
            let _ = fs::remove_file(&marker);
            let _ = fs::remove_dir(folder.join("blobs")).and_then(|()| fs::remove_dir(folder));
        }
    }
    Ok(())
}

impl Layout {
    /// Collects what images refer to.
    fn reach(&self, images: &[Descriptor], reached: &mut BTreeSet<String>) -> Result<()> {
        for image in images {
            checked(image, &self.place())?;
            if !reached.insert(image.digest.clone()) {
                continue;
            }
            let bytes = self.document(&image.digest)?;
            if let Ok(index) = serde_json::from_slice::<Index>(&bytes) {
                self.reach(&index.manifests, reached)?;
                continue;
            }
            let manifest: Manifest =
                serde_json::from_slice(&bytes).map_err(|e| Error::user(format!("{}: {e}", image.digest)))?;
            let parts = manifest.layers.into_iter().chain([manifest.config]);
            reached.extend(parts.map(|part| part.digest));
        }
        Ok(())
    }
}

fn tag_of(image: &Descriptor) -> Option<&str> {
    image.annotations.get(TAG).map(String::as_str)
}

fn details(written: &Written) -> Result<serde_json::Value> {
    serde_json::to_value(written).map_err(|e| Error::internal(format!("a resource: {e}")))
}

fn written(resource: &Resource) -> Result<Written> {
    Written::deserialize(&resource.details).map_err(|e| Error::internal(format!("{resource}: {e}")))
}

fn claim_of(manifest: &Path) -> Option<Claim> {
    let changed = fs::symlink_metadata(manifest).ok()?.modified().ok()?;
    let changed = changed.duration_since(SystemTime::UNIX_EPOCH).ok()?;
    Some((changed.as_secs(), changed.subsec_nanos()))
}

fn time_of((seconds, nanos): Claim) -> SystemTime {
    let since = Duration::new(seconds, nanos);
    SystemTime::UNIX_EPOCH.checked_add(since).unwrap_or(SystemTime::UNIX_EPOCH)
}

fn write_whole(cx: &Context, path: &Path, bytes: &[u8]) -> Result<()> {
    let mut file = WholeFile::create(cx, path, 0o644)?;
    file.write_all(bytes).map_err(|e| Error::io("write", path, e))?;
    file.commit()
}

pub(super) fn sync_folder(folder: &Path) -> Result<()> {
    File::open(folder).and_then(|f| f.sync_all()).map_err(|e| Error::io("sync", folder, e))
}

/// Opens a file of an image for reading. What is no file, a pipe that nobody writes into, is an error at once.
pub(super) fn open_file(path: &Path) -> io::Result<File> {
    use std::os::unix::fs::OpenOptionsExt;
    let flags = rustix::fs::OFlags::NONBLOCK.bits() as i32;
    let file = fs::OpenOptions::new().read(true).custom_flags(flags).open(path)?;
    match file.metadata()?.is_file() {
        true => Ok(file),
        false => Err(io::Error::new(io::ErrorKind::InvalidInput, "it is no regular file")),
    }
}

/// A file that cannot be long.
pub(super) fn read_short(path: &Path) -> Result<Vec<u8>> {
    let failed = |e| Error::io("open", path, e);
    let mut bytes = Vec::new();
    let file = open_file(path).map_err(failed)?;
    file.take(LONGEST_DOCUMENT as u64 + 1).read_to_end(&mut bytes).map_err(failed)?;
    if bytes.len() > LONGEST_DOCUMENT {
        return Err(Error::user(format!("{} is longer than {LONGEST_DOCUMENT} bytes", path.display())));
    }
    Ok(bytes)
}
