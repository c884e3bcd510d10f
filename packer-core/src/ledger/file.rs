//! A ledger in a file, safe against a process that dies at any instant and against whoever opens the same file.

use std::fs::{self, File, Metadata, OpenOptions, TryLockError};
use std::io::{self, BufRead, BufReader, Read, Seek, SeekFrom, Write};
use std::path::{Path, PathBuf};
use std::sync::Mutex;
use std::time::{Duration, Instant};

use super::{Entry, INHERITED, Ledger, Resource, ResourceId, Table, lock, sync_folder};
use crate::error::{Error, Result};

/// No entry is longer: what reads a ledger needs no more memory for a line.
const LONGEST_LINE: usize = 1 << 20;

/// What every line of a ledger begins with.
const BEGINNING: &[u8] = b"{\"entry\":";

/// After so many lines of which none is an entry nobody reads on: it is no ledger.
const PATIENCE: usize = 100;

/// How many spoilt lines are told one by one.
const TOLD: usize = 20;

/// A ledger in a file: one JSON line an entry, written before `record` returns.
///
/// What a component made (a machine in a cloud) is also synced to the disk, so that it survives a loss of power, and so
/// is what is kept. A local file, folder or process is no more durable than its line and is not synced, nor is a release,
/// which can be repeated.
///
/// A process that dies while it writes leaves a torn last line; opening the file again drops that line, whose
/// resource cannot exist yet because its create call waits for the sync. The file is locked while it is open,
/// so that a recovery never releases what a living run still needs. Nobody but its owner may read it.
#[derive(Debug)]
pub struct FileLedger {
    path: PathBuf,
    state: Mutex<State>,
    /// How many bytes are synced, and the file again: syncing does not keep others from writing.
    synced: Mutex<(u64, File)>,
    spoilt: Vec<Spoilt>,
}

/// A line of a ledger that cannot be read.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct Spoilt {
    /// Its number, from 1.
    pub line: u64,
    /// What is wrong with it.
    pub reason: String,
    /// The resources that it mentions, as far as that can be told.
    pub(crate) mentions: Vec<ResourceId>,
}

#[derive(Debug)]
struct State {
    file: File,
    /// The bytes of whole lines.
    whole: u64,
    table: Table,
    /// Whether the file was removed because nothing is left in it.
    finished: bool,
}

impl FileLedger {
    /// Opens a ledger, or makes it, and reads what is outstanding in it. A line that is spoilt is passed over and listed in
    /// [`spoilt`](Self::spoilt).
    ///
    /// # Errors
    /// Where the file cannot be opened or read, another process has it open (which is worth another try later), or it is no
    /// ledger; such a file is left as it is.
    pub fn open(path: impl Into<PathBuf>) -> Result<Self> {
        Self::start(path.into(), true)
    }

    /// Opens a ledger that is there.
    ///
    /// # Errors
    /// As [`open`](Self::open), and where there is none.
    pub fn open_existing(path: impl Into<PathBuf>) -> Result<Self> {
        Self::start(path.into(), false)
    }

    fn start(path: PathBuf, make: bool) -> Result<Self> {
        let mut file = locked(&path, make)?;
        let Content { table, whole, spoilt } = read(&file, &path)?;
        let fail = |verb: &str, e| Error::io(verb, &path, e);
        // Known to be a ledger by now: what is torn off may go.
        if file.metadata().map_err(|e| fail("read", e))?.len() > whole {
            file.set_len(whole).map_err(|e| fail("truncate", e))?;
        }
        file.seek(SeekFrom::Start(whole)).map_err(|e| fail("seek", e))?;
        let again = file.try_clone().map_err(|e| fail("open", e))?;
        let state = Mutex::new(State { file, whole, table, finished: false });
        Ok(Self { path, state, synced: Mutex::new((0, again)), spoilt })
    }

    /// Where the ledger is.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// The lines that cannot be read, the first few of them. What they tell of is not known: it may have been something to
    /// release, or word that something else was released or kept.
    pub fn spoilt(&self) -> &[Spoilt] {
        &self.spoilt
    }

    /// Removes the file where nothing is outstanding and no line was spoilt, while it is still locked; whether it did.
    /// Nothing can be recorded afterwards.
    ///
    /// # Errors
    /// Where it cannot be removed.
    pub fn finish(&self) -> Result<bool> {
        let mut state = lock(&self.state);
        if state.finished {
            return Ok(true);
        }
        if !state.table.entries.is_empty() || !self.spoilt.is_empty() {
            return Ok(false);
        }
        // A link to a ledger, or what somebody put in its place, is not ours to remove.
        if is_at(&state.file, fs::symlink_metadata(&self.path)) {
            fs::remove_file(&self.path).map_err(|e| Error::io("remove", &self.path, e))?;
        }
        state.finished = true;
        Ok(true)
    }

    fn append(&self, entry: Entry, sync: bool) -> Result<()> {
        let mut line =
            serde_json::to_vec(&entry).map_err(|e| Error::internal(format!("ledger entry: {e}")))?;
        line.push(b'\n');
        if line.len() > LONGEST_LINE {
            let message = format!("an entry of {} bytes is too long for the ledger", line.len());
            return Err(Error::internal(message));
        }
        let mut state = lock(&self.state);
        let State { file, whole, table, finished } = &mut *state;
        let news = match &entry {
            Entry::Recorded { .. } => true,
            Entry::Released { id } | Entry::Kept { id } => table.entries.contains_key(id),
            Entry::KeptAll { ids } => ids.iter().any(|id| table.entries.contains_key(id)),
        };
        if !news {
            return Ok(());
        }
        if *finished {
            return Err(Error::internal(format!("the ledger {} is finished", self.path.display())));
        }
        if let Err(e) = file.write_all(&line) {
            // A half-written line must not stand before a whole one.
            let _ = file.set_len(*whole).and_then(|()| file.seek(SeekFrom::Start(*whole)));
            return Err(Error::io("write", &self.path, e));
        }
        *whole += line.len() as u64;
        let end = *whole;
        table.apply(entry);
        drop(state);
        if sync { self.sync(end) } else { Ok(()) }
    }

    /// Syncs what was written up to `end`. Those who wait here for one another's sync share the next one.
    fn sync(&self, end: u64) -> Result<()> {
        let mut synced = lock(&self.synced);
        let (done, file) = &mut *synced;
        if *done < end {
            let written = lock(&self.state).whole;
            file.sync_data().map_err(|e| Error::io("sync", &self.path, e))?;
            *done = written;
        }
        Ok(())
    }
}

impl Ledger for FileLedger {
    fn record(&self, resource: &Resource) -> Result<()> {
        let entry = Entry::Recorded { resource: Box::new(resource.clone()) };
        self.append(entry, !resource.is_local())
    }

    fn released(&self, id: ResourceId) -> Result<()> {
        self.append(Entry::Released { id }, false)
    }

    fn kept(&self, id: ResourceId) -> Result<()> {
        self.append(Entry::Kept { id }, true)
    }

    fn kept_all(&self, ids: &[ResourceId]) -> Result<()> {
        self.append(Entry::KeptAll { ids: ids.to_vec() }, true)
    }

    fn outstanding(&self) -> Vec<Resource> {
        lock(&self.state).table.outstanding()
    }

    fn doubt(&self, id: ResourceId) -> Option<String> {
        let spoilt = self.spoilt.iter().find(|spoilt| spoilt.mentions.contains(&id))?;
        Some(format!(
            "line {} of {}, which tells of it too, cannot be read: it may be somebody's by now",
            spoilt.line,
            self.path.display()
        ))
    }
}

/// Opens the file of a ledger and locks it. The file that is locked is the one that has the name: another process may have
/// removed the one that was opened before it could be locked.
fn locked(path: &Path, make: bool) -> Result<File> {
    let began = Instant::now();
    loop {
        let (file, made) = open(path, make)?;
        match file.try_lock() {
            Ok(()) if is_at(&file, fs::metadata(path)) => {
                if made {
                    sync_folder(path)?;
                }
                return Ok(file);
            }
            Ok(()) => {}
            Err(TryLockError::WouldBlock) if began.elapsed() < INHERITED => {
                std::thread::sleep(Duration::from_millis(5));
            }
            Err(TryLockError::WouldBlock) => {
                let message = format!("the ledger {} is in use by another run", path.display());
                return Err(Error::user(message).retryable());
            }
            Err(TryLockError::Error(e)) => return Err(Error::io("lock", path, e)),
        }
    }
}

/// The file, and whether it was made just now.
fn open(path: &Path, make: bool) -> Result<(File, bool)> {
    let fail = |e| Error::io("open", path, e);
    let no_file = || Error::user(format!("{} is no ledger: it is no regular file", path.display()));
    // Opening something else may wait for ever, or do something.
    match fs::metadata(path) {
        Ok(there) if !there.is_file() => return Err(no_file()),
        Ok(_) => {}
        Err(e) if e.kind() == io::ErrorKind::NotFound && make => {}
        Err(e) => return Err(fail(e)),
    }
    let mut options = OpenOptions::new();
    options.read(true).write(true);
    let existing = options.open(path);
    let (file, made) = match existing {
        Err(e) if e.kind() == io::ErrorKind::NotFound && make => {
            #[cfg(unix)]
            std::os::unix::fs::OpenOptionsExt::mode(&mut options, 0o600);
            (options.create(true).open(path).map_err(fail)?, true)
        }
        existing => (existing.map_err(fail)?, false),
    };
    if file.metadata().map_err(fail)?.is_file() { Ok((file, made)) } else { Err(no_file()) }
}

/// Whether a path names the file that is open. Where that cannot be told, whether it names any.
fn is_at(file: &File, there: io::Result<Metadata>) -> bool {
    let Ok(there) = there else { return false };
    #[cfg(unix)]
    {
        use std::os::unix::fs::MetadataExt;
        file.metadata().is_ok_and(|own| (own.dev(), own.ino()) == (there.dev(), there.ino()))
    }
    #[cfg(not(unix))]
    {
        let _ = file;
        there.is_file()
    }
}

/// What the lines of a ledger say.
struct Content {
    table: Table,
    /// Where the last whole line ends.
    whole: u64,
    spoilt: Vec<Spoilt>,
}

/// Reads a ledger and changes nothing.
fn read(file: &File, path: &Path) -> Result<Content> {
    let mut read = Content { table: Table::default(), whole: 0, spoilt: Vec::new() };
    let mut reader = BufReader::new(file);
    let (mut entries, mut number, mut line) = (0u64, 0u64, Vec::new());
    let torn = loop {
        line.clear();
        let limit = LONGEST_LINE as u64;
        let fail = |e| Error::io("read", path, e);
        (&mut reader).take(limit).read_until(b'\n', &mut line).map_err(fail)?;
        let mut length = line.len() as u64;
        if line.last() != Some(&b'\n') {
            if length < limit {
                break length > 0;
            }
            // What is too long to be an entry is passed over without being kept.
            let Some(more) = skip_line(&mut reader).map_err(fail)? else { break true };
            length += more;
        }
        number += 1;
        match serde_json::from_slice(&line) {
            Ok(entry) => {
                read.table.apply(entry);
                entries += 1;
            }
            Err(e) => {
                let reason = if length > limit { "it is too long".to_owned() } else { e.to_string() };
                let mentions = mentioned(&line, &read.table);
                if read.spoilt.len() < TOLD {
                    read.spoilt.push(Spoilt { line: number, reason, mentions });
                } else if let Some(last) = read.spoilt.last_mut() {
                    last.mentions.extend(mentions);
                }
                if entries == 0 && number as usize >= PATIENCE {
                    break false;
                }
            }
        }
        read.whole += length;
    };
    // Nothing but a line that was being written: the first entry of all.
    let known = line.len().min(BEGINNING.len());
    let first = torn && number == 0 && line.len() < LONGEST_LINE && line[..known] == BEGINNING[..known];
    if entries == 0 && !first && (torn || number > 0) {
        return Err(Error::user(format!("{} is no ledger", path.display())));
    }
    Ok(read)
}

/// Reads to the end of the line; how many bytes that were, or `None` where it has no end.
fn skip_line(reader: &mut impl BufRead) -> io::Result<Option<u64>> {
    let mut skipped = 0;
    loop {
        let piece = reader.fill_buf()?;
        if piece.is_empty() {
            return Ok(None);
        }
        let (length, ended) = match piece.iter().position(|byte| *byte == b'\n') {
            Some(at) => (at + 1, true),
            None => (piece.len(), false),
        };
        reader.consume(length);
        skipped += length as u64;
        if ended {
            return Ok(Some(skipped));
        }
    }
}

/// The outstanding resources that a spoilt line mentions by their ids.
fn mentioned(line: &[u8], table: &Table) -> Vec<ResourceId> {
    let text = String::from_utf8_lossy(line);
    table.entries.keys().filter(|id| text.contains(&id.0.to_string())).copied().collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::TempFolder;

    fn names(ledger: &dyn Ledger) -> Vec<String> {
        ledger.outstanding().into_iter().map(|r| r.name).collect()
    }

    #[test]
    fn a_file_ledger_survives_its_process_and_a_torn_line() {
        let dir = TempFolder::new();
        let path = dir.path().join("run.ledger");
        let (a, b, c) = (Resource::new("container", "a"), Resource::file("/b"), Resource::new("image", "c"));
        {
            let ledger = FileLedger::open(&path).unwrap();
            for r in [&a, &b, &c] {
                ledger.record(r).unwrap();
            }
            ledger.released(a.id).unwrap();
            ledger.record(&Resource { name: "/b2".into(), ..b.clone() }).unwrap();
            let busy = FileLedger::open(&path).unwrap_err();
            assert!(busy.message().contains("in use by another run"), "{busy}");
        }
        let mut file = OpenOptions::new().append(true).open(&path).unwrap();
        file.write_all(b"{\"entry\":\"recorded\",\"resou").unwrap();
        drop(file);
        let ledger = FileLedger::open(&path).unwrap();
        assert_eq!(names(&ledger), ["/b2", "c"]);
        ledger.kept(c.id).unwrap();
        drop(ledger);
        let ledger = FileLedger::open(&path).unwrap();
        assert_eq!(names(&ledger), ["/b2"]);
        assert!(!ledger.finish().unwrap(), "something is left");
        ledger.released(b.id).unwrap();
        assert!(ledger.finish().unwrap() && !path.exists());
        assert!(ledger.record(&a).unwrap_err().message().ends_with("is finished"));
    }

    #[test]
    fn what_is_no_ledger_is_left_as_it_is() {
        let dir = TempFolder::new();
        let path = dir.path().join("file");
        let many = "x\n".repeat(1000);
        let long = "y".repeat(3 * LONGEST_LINE);
        for content in ["one line without an end", "{\"builders\":[]}", "a\nb\n", "\0\0\0", &many, &long] {
            fs::write(&path, content).unwrap();
            let error = FileLedger::open(&path).unwrap_err();
            assert!(error.message().ends_with("file is no ledger"), "{error}");
            assert_eq!(fs::read_to_string(&path).unwrap(), content);
        }
        // The first entry of a run that died while it wrote it.
        for torn in ["{\"en", "{\"entry\":\"rec"] {
            fs::write(&path, torn).unwrap();
            assert!(FileLedger::open_existing(&path).unwrap().finish().unwrap());
            assert!(!path.exists());
        }
        assert!(FileLedger::open_existing(&path).is_err() && !path.exists());
        let error = FileLedger::open(dir.path()).unwrap_err();
        assert!(error.message().ends_with("it is no regular file"), "{error}");
    }

    #[cfg(unix)]
    #[test]
    fn a_pipe_or_a_device_is_not_opened_and_a_link_not_removed() {
        use std::os::unix::fs::{PermissionsExt, symlink};
        let dir = TempFolder::new();
        let pipe = dir.path().join("pipe");
        assert!(std::process::Command::new("mkfifo").arg(&pipe).status().unwrap().success());
        for path in [pipe.as_path(), Path::new("/dev/zero")] {
            assert!(FileLedger::open(path).unwrap_err().message().ends_with("it is no regular file"));
        }
        let (path, link) = (dir.path().join("ledger"), dir.path().join("link"));
        drop(FileLedger::open(&path).unwrap());
        assert_eq!(fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o600);
        symlink(&path, &link).unwrap();
        assert!(FileLedger::open(&link).unwrap().finish().unwrap());
        assert!(path.exists() && link.exists());
    }

    #[test]
    fn a_spoilt_line_hides_nothing_else() {
        let dir = TempFolder::new();
        let path = dir.path().join("run.ledger");
        let resources = ["a", "b", "c"].map(|name| Resource::new("container", name));
        let ledger = FileLedger::open(&path).unwrap();
        resources.iter().for_each(|r| ledger.record(r).unwrap());
        ledger.kept(resources[2].id).unwrap();
        drop(ledger);
        let mut lines: Vec<String> = fs::read_to_string(&path).unwrap().lines().map(str::to_owned).collect();
        lines[1] = "x".repeat(2 * LONGEST_LINE);
        lines[3] = lines[3].replace("kept", "k\u{1}pt");
        fs::write(&path, lines.join("\n") + "\n{\"entry\":").unwrap();
        let ledger = FileLedger::open(&path).unwrap();
        assert_eq!(names(&ledger), ["a", "c"]);
        let spoilt: Vec<_> = ledger.spoilt().iter().map(|s| (s.line, s.mentions.clone())).collect();
        assert_eq!(spoilt, [(2, vec![]), (4, vec![resources[2].id])]);
        // It can be written to, and is never removed.
        ledger.released(resources[0].id).unwrap();
        ledger.released(resources[2].id).unwrap();
        assert!(!ledger.finish().unwrap() && path.exists());
        drop(ledger);
        let ledger = FileLedger::open(&path).unwrap();
        assert_eq!((names(&ledger).len(), ledger.spoilt().len()), (0, 2));
    }

    #[test]
    fn what_an_artifact_owns_is_struck_out_at_once() {
        let dir = TempFolder::new();
        let path = dir.path().join("run.ledger");
        let resources = ["a", "b", "c"].map(|name| Resource::new("container", name));
        let ledger = FileLedger::open(&path).unwrap();
        resources.iter().for_each(|r| ledger.record(r).unwrap());
        ledger.kept_all(&[resources[0].id, resources[2].id]).unwrap();
        ledger.kept_all(&[resources[0].id]).unwrap();
        drop(ledger);
        assert_eq!(fs::read_to_string(&path).unwrap().lines().count(), 4, "no word of what is not there");
        assert_eq!(names(&FileLedger::open(&path).unwrap()), ["b"]);
    }

    #[test]
    fn a_ledger_that_is_removed_before_it_is_locked_is_made_again() {
        let dir = TempFolder::new();
        let path = dir.path().join("run.ledger");
        let stop = std::sync::atomic::AtomicBool::new(false);
        std::thread::scope(|scope| {
            // Recoveries that find nothing, as fast as they can.
            scope.spawn(|| {
                while !stop.load(std::sync::atomic::Ordering::Relaxed) {
                    if let Ok(ledger) = FileLedger::open_existing(&path) {
                        let _ = ledger.finish();
                    }
                }
            });
            for _ in 0..2000 {
                let Ok(ledger) = FileLedger::open(&path) else { continue };
                assert!(is_at(&lock(&ledger.state).file, fs::symlink_metadata(&path)));
            }
            stop.store(true, std::sync::atomic::Ordering::Relaxed);
        });
    }

    #[test]
    fn an_entry_that_is_too_long_is_refused() {
        let dir = TempFolder::new();
        let ledger = FileLedger::open(dir.path().join("run.ledger")).unwrap();
        let error = ledger.record(&Resource::new("thing", "x".repeat(LONGEST_LINE))).unwrap_err();
        assert!(error.message().ends_with("is too long for the ledger"), "{error}");
        assert!(ledger.outstanding().is_empty());
    }
}
