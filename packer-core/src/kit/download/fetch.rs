//! One file from several places: which are tried in which order, and where the file is kept.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use reqwest::Url;
use sha1::Digest as _;

use super::checksum::{Checksum, Hasher, Sum, hex};
use super::place::{Packed, Place, Way};
use super::transfer::{Known, Part, Source};
use super::turn::{beside, turn};
use super::unpack::unpack;
use crate::Fault;
use crate::context::Context;
use crate::error::{Error, Result, os_text};
use crate::ledger::Resource;

/// A file that is fetched from the first of several places that gives what it should.
///
/// What is fetched stays in the [cache](Context::cache_dir), by its checksum or else its URL, and is used from there the next
/// time; several builds and processes that want the same file at once fetch it once. What is a path already is used where it
/// is. Packed files (`.gz`, with the feature `machines-archives` also `.bz2`, `.xz`, `.zst`, `.zip` and archives of a single
/// file) are unpacked unless the URL says `?archive=false`; their checksum is that of the packed file. A download that breaks
/// off is continued, by a later run too; a server that sends nothing for 60 seconds, or 30 within its answer
/// (`PACKER_GETTER_READ_TIMEOUT` says another limit), is given up for the next place.
///
/// ```
/// # #[cfg(feature = "testing")]
/// # tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap().block_on(async {
/// # let bench = packer_core::testing::Bench::new();
/// # let cx = bench.context();
/// # let path = bench.folder().join("firmware.fd");
/// # std::fs::write(&path, "the disc\n").unwrap();
/// # let path = path.to_str().unwrap();
/// use packer_core::kit::download::Download;
/// let firmware = Download::new("firmware")
///     .from("/nowhere/firmware.fd")
///     .from(path)
///     .checksum("md5:35793cae08d778633e70d924572f4170".parse()?)
///     .extension("fd")
///     .fetch(cx)
///     .await?;
/// assert_eq!(firmware.path, std::path::Path::new(path));
/// # Ok::<(), packer_core::Error>(())
/// # }).unwrap();
/// ```
#[derive(Debug, Clone)]
pub struct Download {
    label: String,
    places: Vec<String>,
    checksum: Checksum,
    target: Option<String>,
    extension: String,
}

/// A file that was fetched.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct Downloaded {
    /// Where it is.
    pub path: PathBuf,
    /// The place that it came from, without a password: `SourceImageURL`.
    pub url: String,
}

/// Why a place did not give the file.
enum Trouble {
    /// It gave another one, which was removed unless it is the user's own.
    Mismatch { why: Error, removed: Option<PathBuf> },
    /// The next place may be better.
    There(Error),
    /// No place is better: cancelled, or this computer has no room.
    Here(Error),
}

impl Download {
    /// A file that is called so in what is told: `ISO`.
    pub fn new(label: impl Into<String>) -> Self {
        Self {
            label: label.into(),
            places: Vec::new(),
            checksum: Checksum::none(),
            target: None,
            extension: "iso".to_owned(),
        }
    }

    /// Adds a place: a path, a `file:` URL, or one of http or https, also with a user's name and password. A `?checksum=` in it
    /// counts from there on in place of [`checksum`](Self::checksum).
    #[must_use]
    pub fn from(mut self, place: impl Into<String>) -> Self {
        self.places.push(place.into());
        self
    }

    /// What the file must be. Default: anything is right.
    #[must_use]
    pub fn checksum(mut self, checksum: Checksum) -> Self {
        self.checksum = checksum;
        self
    }

    /// Where the file is kept in place of the cache: a path, or a folder where it has no extension.
    #[must_use]
    pub fn target(mut self, path: impl Into<String>) -> Self {
        self.target = Some(path.into()).filter(|path| !path.is_empty());
        self
    }

    /// The extension of the kept file. Default `iso`.
    #[must_use]
    pub fn extension(mut self, extension: impl Into<String>) -> Self {
        let extension = extension.into();
        self.extension = extension.trim_start_matches('.').to_lowercase();
        self
    }

    /// Fetches the file; says how far that is.
    ///
    /// # Errors
    /// `error downloading LABEL: […]` with what went wrong at each place; where this computer cannot keep the file;
    /// cancellation.
    pub async fn fetch(&self, cx: &Context) -> Result<Downloaded> {
        cx.say(format!("Retrieving {}", self.label));
        let mut checksum = self.checksum.clone();
        let mut failures: Vec<Error> = Vec::new();
        for given in &self.places {
            cx.secrets().add_url(given);
            let place = Place::new(given);
            cx.say(format!("Trying {}", place.shown()));
            match self.fetch_place(cx, &place, &mut checksum).await {
                Ok(path) => {
                    cx.say(format!("{} => {}", place.shown_with(&checksum), path.display()));
                    return Ok(Downloaded { path, url: place.shown() });
                }
                Err(Trouble::Here(e)) => return Err(e),
                Err(Trouble::There(e)) if e.is_cancelled() => return Err(e),
                Err(Trouble::There(e)) => {
                    cx.say_error(format!("Download failed {e}"));
                    failures.push(e);
                }
                Err(Trouble::Mismatch { why, removed }) => {
                    match removed {
                        Some(path) => {
                            cx.say_error(format!("Checksum did not match, removing {}", path.display()));
                        }
                        None => cx.say_error("Checksum did not match"),
                    }
                    failures.push(why);
                }
            }
        }
        let all: Vec<String> = failures.iter().map(ToString::to_string).collect();
        let text = format!("error downloading {}: [{}]", self.label, all.join(" "));
        let fault = failures.first().map_or(Fault::User, Error::fault);
        let error = Error::new(fault, text);
        Err(if failures.iter().any(Error::is_retryable) { error.retryable() } else { error })
    }

    async fn fetch_place(
        &self,
        cx: &Context,
        place: &Place,
        checksum: &mut Checksum,
    ) -> Result<PathBuf, Trouble> {
        let own = place.checksum.as_deref().map(str::parse::<Checksum>).transpose();
        if let Some(own) = own.map_err(Trouble::There)? {
            *checksum = own;
        }
        let known = cx.until_cancelled(checksum.resolved(cx.host(), &place.given)).await;
        *checksum = known.map_err(Trouble::There)?;
        let sum = checksum.sum();
        let shown = place.shown_with(checksum);
        if shown != place.shown() {
            cx.say(format!("Trying {shown}"));
        }
        match &place.way {
            Way::Other => Err(Trouble::There(place.not_ours())),
            Way::Local(path) => {
                let found = tokio::fs::metadata(path).await.map_err(|e| {
                    let text = format!("source path error: stat {}: {}", path.display(), os_text(&e));
                    Trouble::There(Error::user(text).with_source(e))
                })?;
                if !found.is_file() {
                    return Err(Trouble::There(Error::user("source path must be a file")));
                }
                verify(cx, path, sum, None).await?;
                let Some(packed) = place.packed else { return Ok(path.clone()) };
                let target = self.kept_at(cx, place, checksum).map_err(Trouble::Here)?;
                let _turn = turn(cx, &target).await.map_err(Trouble::Here)?;
                if !unpacked_before(cx, &target, sum).await? {
                    unpack_to(cx, path, packed, &target, sum).await?;
                }
                Ok(target)
            }
            Way::Http(url) => {
                let target = self.kept_at(cx, place, checksum).map_err(Trouble::Here)?;
                let _turn = turn(cx, &target).await.map_err(Trouble::Here)?;
                let title = format!("downloading {}", place.base_name());
                let wanted = Wanted { cx, url, sum, target: &target, title };
                match place.packed {
                    None => wanted.plain().await?,
                    Some(packed) => wanted.packed(packed).await?,
                }
                Ok(target)
            }
        }
    }

    /// Where the file is kept; its folder is made.
    fn kept_at(&self, cx: &Context, place: &Place, checksum: &Checksum) -> Result<PathBuf> {
        let named = match checksum.is_none() {
            true => place.given.clone(),
            false => checksum.to_string(),
        };
        let name = format!("{}.{}", hex(&sha1::Sha1::digest(named)), self.extension);
        let path = match &self.target {
            None => cx.cache_dir().join(name),
            Some(target) if has_extension(target) && !Path::new(target).is_dir() => PathBuf::from(target),
            Some(folder) => Path::new(folder).join(name),
        };
        if let Some(folder) = path.parent().filter(|folder| !folder.as_os_str().is_empty()) {
            fs::create_dir_all(folder).map_err(|e| Error::io("mkdir", folder, e))?;
        }
        Ok(path)
    }
}

/// As Go says it: the last part of the path has a dot.
fn has_extension(path: &str) -> bool {
    let is_separator = |c: char| c == '/' || cfg!(windows) && c == '\\';
    path.rsplit(is_separator).next().is_some_and(|last| last.contains('.') && last != "." && last != "..")
}

/// A file of a server that is wanted at a path, by whoever has the turn there.
struct Wanted<'a> {
    cx: &'a Context,
    url: &'a Url,
    sum: Option<&'a Sum>,
    target: &'a Path,
    title: String,
}

impl Wanted<'_> {
    /// The file itself.
    async fn plain(&self) -> Result<(), Trouble> {
        let (cx, target) = (self.cx, self.target);
        let existing = length_of(target).map_err(Trouble::Here)?;
        if existing.is_some()
            && let Some(sum) = self.sum
            && digits_of(cx, target, sum).await? == sum.hex
        {
            return Ok(());
        }
        let source = Source::new(self.cx, self.url).map_err(Trouble::There)?;
        let known = source.head().await.map_err(Trouble::There)?;
        let part = beside(target, ".part");
        let mut of_target = false;
        match (existing, known.length) {
            // As long as it should be, or longer: it is taken for the file, and only its checksum says that it is not.
            (Some(existing), Some(length)) if existing >= length => {
                return verify(cx, target, self.sum, Some(target)).await;
            }
            // The beginning of a file, as Packer leaves it. Without a checksum nobody knows of which.
            (Some(existing), Some(_)) if existing > 0 && self.sum.is_some() => {
                fs::rename(target, &part).map_err(|e| Trouble::Here(Error::io("rename", target, e)))?;
                of_target = true;
            }
            _ => {}
        }
        let fetched = self.fetch(&source, &part, &known, of_target).await;
        match fetched {
            Ok(()) => fs::rename(&part, target).map_err(|e| Trouble::Here(Error::io("rename", target, e))),
            Err(e) => Err(e),
        }
    }

    /// What is in the file.
    async fn packed(&self, packed: Packed) -> Result<(), Trouble> {
        if unpacked_before(self.cx, self.target, self.sum).await? {
            return Ok(());
        }
        let source = Source::new(self.cx, self.url).map_err(Trouble::There)?;
        let known = source.head().await.map_err(Trouble::There)?;
        let part = beside(self.target, ".part");
        self.fetch(&source, &part, &known, false).await?;
        let unpacked = unpack_to(self.cx, &part, packed, self.target, self.sum).await;
        let _ = fs::remove_file(part);
        unpacked
    }

    /// Fetches the file into `part`, going on with what is there already, and checks it. A part of an earlier download that
    /// turns out wrong is fetched anew; one that was found under the file's own name is not, as in Packer.
    async fn fetch(
        &self,
        source: &Source<'_>,
        part: &Path,
        known: &Known,
        of_target: bool,
    ) -> Result<(), Trouble> {
        let left = length_of(part).map_err(Trouble::Here)?.filter(|length| *length > 0);
        let mut begun = None;
        if let (Some(sum), Some(left), Some(length)) = (self.sum, left, known.length)
            && left <= length
        {
            let (path, kind, title) =
                (part.to_owned(), sum.kind, format!("checking what is there of {}", self.title));
            let inner = self.cx.clone();
            let hashed = self.cx.blocking(move |stop| {
                let progress = inner.progress(title, Some(left));
                Hasher::of_file(kind, &path, stop, progress)
            });
            let (hasher, done) = hashed.await.map_err(Trouble::Here)?;
            if done == length {
                if hasher.clone().finish() == sum.hex {
                    return Ok(());
                }
            } else {
                begun = Some(Part::open(part, sum.kind, hasher, done).map_err(Trouble::Here)?);
            }
        }
        let continued = begun.is_some();
        match self.whole(source, part, begun, known).await {
            Err(Trouble::Mismatch { .. }) if continued && !of_target => {
                self.whole(source, part, None, known).await
            }
            result => result,
        }
    }

    async fn whole(
        &self,
        source: &Source<'_>,
        path: &Path,
        begun: Option<Part>,
        known: &Known,
    ) -> Result<(), Trouble> {
        // One that has a checksum stays for a later run to go on with.
        let passing = self.sum.is_none().then(|| Resource::file(path));
        if let Some(passing) = &passing {
            self.cx.record(passing.clone()).map_err(Trouble::Here)?;
        }
        let part = match begun {
            Some(part) => part,
            None => Part::create(path, self.sum.map(|sum| sum.kind)).map_err(Trouble::Here)?,
        };
        let fetched = source.fetch(part, known, &self.title).await;
        let part = match fetched {
            Ok(part) => part,
            Err(e) => {
                // What nobody could go on with later does not stay.
                if self.sum.is_none() || length_of(path).is_ok_and(|length| length == Some(0)) {
                    let _ = fs::remove_file(path);
                }
                self.release(passing.as_ref());
                let here = e.is_cancelled() || e.fault() != Fault::Network;
                return Err(if here { Trouble::Here(e) } else { Trouble::There(e) });
            }
        };
        let cx = self.cx;
        let hasher = cx.blocking(move |_| part.finish()).await.map_err(Trouble::Here)?;
        self.release(passing.as_ref());
        match (self.sum, hasher) {
            (Some(sum), Some(hasher)) => {
                let got = hasher.finish();
                if got == sum.hex {
                    return Ok(());
                }
                let _ = fs::remove_file(path);
                Err(Trouble::Mismatch {
                    why: mismatch(self.target, sum, &got),
                    removed: Some(self.target.to_owned()),
                })
            }
            _ => Ok(()),
        }
    }
}

impl Wanted<'_> {
    /// What cannot be struck out now is looked for with the cleanup, and is not there.
    fn release(&self, passing: Option<&Resource>) {
        if let Some(passing) = passing {
            let _ = self.cx.released(passing);
        }
    }
}

/// Checks a file that is there already; `removable` names it where it is not the user's own.
async fn verify(
    cx: &Context,
    path: &Path,
    sum: Option<&Sum>,
    removable: Option<&Path>,
) -> Result<(), Trouble> {
    let Some(sum) = sum else { return Ok(()) };
    let got = digits_of(cx, path, sum).await?;
    if got == sum.hex {
        return Ok(());
    }
    if let Some(path) = removable {
        fs::remove_file(path).map_err(|e| Trouble::Here(Error::io("remove", path, e)))?;
    }
    let removed = removable.map(Path::to_owned);
    Err(Trouble::Mismatch { why: mismatch(path, sum, &got), removed })
}

fn mismatch(path: &Path, sum: &Sum, got: &str) -> Error {
    let path = path.display();
    Error::user(format!("Checksums did not match for {path}.\nExpected: {}\nGot: {got}", sum.hex))
}

async fn digits_of(cx: &Context, path: &Path, sum: &Sum) -> Result<String, Trouble> {
    let (kind, path, inner) = (sum.kind, path.to_owned(), cx.clone());
    let work = cx.blocking(move |stop| {
        let length = fs::metadata(&path).ok().map(|found| found.len());
        let progress = inner.progress(format!("checking {}", path.display()), length);
        Ok(Hasher::of_file(kind, &path, stop, progress)?.0.finish())
    });
    work.await.map_err(Trouble::Here)
}

/// How long a file is; `None` where there is none.
fn length_of(path: &Path) -> Result<Option<u64>> {
    match fs::metadata(path) {
        Ok(found) if found.is_file() => Ok(Some(found.len())),
        Ok(_) => Err(Error::user(format!("{} is there and no file", path.display()))),
        Err(e) if e.kind() == io::ErrorKind::NotFound => Ok(None),
        Err(e) => Err(Error::io("stat", path, e)),
    }
}

/// Whether the target is what came out of the packed file with this checksum. A file beside it says what that was: the
/// checksum is one of the packed file.
async fn unpacked_before(cx: &Context, target: &Path, sum: Option<&Sum>) -> Result<bool, Trouble> {
    let Some(sum) = sum else { return Ok(false) };
    let Ok(note) = fs::read_to_string(beside(target, ".unpacked")) else { return Ok(false) };
    let Some(("", content)) = note.trim_end().split_once(&format!("{} ", sum.hex)) else { return Ok(false) };
    let Ok(content) = Sum::bare(content) else { return Ok(false) };
    if length_of(target).map_err(Trouble::Here)?.is_none() {
        return Ok(false);
    }
    Ok(digits_of(cx, target, &content).await? == content.hex)
}

async fn unpack_to(
    cx: &Context,
    packed: &Path,
    how: Packed,
    target: &Path,
    sum: Option<&Sum>,
) -> Result<(), Trouble> {
    let (inner, packed, to) = (cx.clone(), packed.to_owned(), target.to_owned());
    let work = cx.blocking(move |stop| unpack(&inner, &packed, how, &to, stop));
    let content = work.await.map_err(|e| match e.fault() {
        Fault::User => Trouble::There(e),
        _ => Trouble::Here(e),
    })?;
    if let Some(sum) = sum {
        // Without it the file is unpacked again, that is all.
        let _ = fs::write(beside(target, ".unpacked"), format!("{} {content}\n", sum.hex));
    }
    Ok(())
}
