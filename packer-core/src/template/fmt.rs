//! Formatting of files: which of a folder, how they differ, and writing them back.

use std::fs;
use std::path::Path;
use std::sync::Arc;

use super::files::join;
use crate::diagnostic::{Diagnostic, Diagnostics, Hide, SourceFile};
use crate::error::{Error, Result, os_text};
use crate::kit::WholeFile;
use crate::language::fmt::format;
use crate::language::{LARGEST, decode, is_named_pipe, read_bounded};

/// The files that are formatted where a path is asked for, in the order of their names: of a folder its `*.pkr.hcl` and
/// `*.pkrvars.hcl`, with `recursive` those of its folders too; what is no folder is itself the answer. Hidden files and
/// folders and what editors leave behind (`NAME~`, `#NAME#`) are left out, and so are named pipes; symbolic links to folders are not followed.
///
/// ```
/// # let folder = tempfile::tempdir()?;
/// # std::fs::write(folder.path().join("a.pkr.hcl"), "locals {\n a=1\n}\n")?;
/// use packer_core::template::fmt::{Formatted, files};
/// let (paths, unreadable) = files(&folder.path().to_string_lossy(), true);
/// assert!(unreadable.is_empty());
/// for path in paths {
///     let file = Formatted::read(&path)?;
///     if file.is_changed() {
///         file.write()?;
///     }
/// }
/// assert_eq!(std::fs::read_to_string(folder.path().join("a.pkr.hcl"))?, "locals {\n  a = 1\n}\n");
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
pub fn files(path: &str, recursive: bool) -> (Vec<String>, Diagnostics) {
    let mut unreadable = Diagnostics::new();
    if !Path::new(path).is_dir() {
        return (vec![path.to_owned()], unreadable);
    }
    let mut found = Vec::new();
    // Folders still to be read, the next one last; a stack of our own has no depth at which it falls over.
    let mut waiting = vec![(path.to_owned(), true)];
    while let Some((path, is_dir)) = waiting.pop() {
        if !is_dir {
            found.push(path);
            continue;
        }
        match entries(&path, recursive) {
            Ok(entries) => waiting.extend(entries.into_iter().rev()),
            Err(e) => unreadable.push(
                Diagnostic::error("Cannot read folder").detail(format!("open {path}: {}", os_text(&e))),
            ),
        }
    }
    (found, unreadable)
}

/// The files of a folder that are formatted and, if asked for, its folders, in the order of their names.
fn entries(folder: &str, folders: bool) -> std::io::Result<Vec<(String, bool)>> {
    let mut entries = Vec::new();
    for entry in fs::read_dir(folder)? {
        let entry = entry?;
        // A name that is no Unicode is no template's.
        let Ok(name) = entry.file_name().into_string() else { continue };
        let left_out = name.starts_with('.')
            || name.ends_with('~')
            || (name.len() > 1 && name.starts_with('#') && name.ends_with('#'));
        let is_dir = entry.file_type()?.is_dir();
        // What one does not read to its end at once was not meant either.
        if !left_out && (if is_dir { folders } else { is_native(&name) && !is_named_pipe(&entry.path()) }) {
            entries.push((name, is_dir));
        }
    }
    entries.sort_unstable();
    Ok(entries.into_iter().map(|(name, is_dir)| (join(folder, &name), is_dir)).collect())
}

fn is_native(name: &str) -> bool {
    name.ends_with(".pkr.hcl") || name.ends_with(".pkrvars.hcl")
}

/// A file and what it is in canonical layout.
#[derive(Debug)]
pub struct Formatted {
    source: Arc<SourceFile>,
    text: String,
    /// What stood where the texts hold a replacement character, in order: comments may be in any encoding.
    replaced: Vec<Vec<u8>>,
}

impl Formatted {
    /// Reads a file and formats it; the file stays as it is.
    ///
    /// # Errors
    /// Where it cannot be read, is not named `*.pkr.hcl` or `*.pkrvars.hcl`, or is wrong.
    pub fn read(path: &str) -> Result<Self, Diagnostics> {
        if !is_native(path) && Path::new(path).exists() {
            return Err(Diagnostic::error(format!("file {path} is not a HCL file"))
                .detail("Only files whose names end in `.pkr.hcl` or `.pkrvars.hcl` are formatted.")
                .into());
        }
        let bytes = read_bounded(Path::new(path), LARGEST)
            .map_err(|e| Diagnostic::error(format!("failed to open {path}: open {path}: {}", os_text(&e))))?;
        Self::of(path, bytes)
    }

    /// Formats what was read elsewhere, under the name that messages show for it.
    ///
    /// # Errors
    /// What is wrong with it.
    pub fn of(name: &str, bytes: Vec<u8>) -> Result<Self, Diagnostics> {
        let replaced = match std::str::from_utf8(&bytes) {
            Ok(_) => Vec::new(),
            Err(_) => replaced(&bytes),
        };
        let mut diagnostics = Diagnostics::new();
        let hide = |mut found: Diagnostics| {
            // Nobody knows here what of it is secret.
            let nothing = |_: &str| false;
            let is_values = name.ends_with(".pkrvars.hcl");
            found.hide_values(0, if is_values { Hide::Values(&nothing) } else { Hide::Telling });
            found
        };
        let Some(source) = decode(name, bytes, &mut diagnostics) else { return Err(hide(diagnostics)) };
        diagnostics.into_result(()).map_err(hide)?;
        Ok(Self { text: format(&source).map_err(hide)?, source, replaced })
    }

    /// The name it was read under.
    pub fn name(&self) -> &str {
        self.source.name()
    }

    /// Whether the canonical layout is another than that of the file.
    pub fn is_changed(&self) -> bool {
        self.text != self.source.text()
    }

    /// The file in canonical layout.
    pub fn to_bytes(&self) -> Vec<u8> {
        let mut replaced = self.replaced.iter();
        let mut bytes = Vec::with_capacity(self.text.len());
        for (i, part) in self.text.split(char::REPLACEMENT_CHARACTER).enumerate() {
            if i > 0 {
                // Where nothing was replaced, the character was there before.
                bytes.extend(replaced.next().map_or("\u{fffd}".as_bytes(), Vec::as_slice));
            }
            bytes.extend(part.as_bytes());
        }
        bytes
    }

    /// What changes, as a unified diff from `old/NAME` to `new/NAME`; empty where nothing does. With the feature `diff`.
    ///
    /// ```
    /// use packer_core::template::fmt::Formatted;
    /// let file = Formatted::of("a.pkr.hcl", b"locals {\n a=1\n}\n".to_vec())?;
    /// assert!(file.diff().ends_with("- a=1\n+  a = 1\n }\n"));
    /// # Ok::<(), packer_core::Diagnostics>(())
    /// ```
    #[cfg(feature = "diff")]
    pub fn diff(&self) -> String {
        /// After this it need no longer be the shortest.
        const TIME: std::time::Duration = std::time::Duration::from_secs(2);
        let diff = similar::TextDiff::configure().timeout(TIME).diff_lines(self.source.text(), &self.text);
        let (old, new) = (format!("old/{}", self.name()), format!("new/{}", self.name()));
        diff.unified_diff().header(&old, &new).to_string()
    }

    /// Writes the canonical layout back to where it was read; the file is whole at any time.
    ///
    /// # Errors
    /// Where the file or its folder cannot be written.
    pub fn write(&self) -> Result<()> {
        use std::io::Write;
        let mut file = WholeFile::create_outside_of_a_run(self.name(), 0o644)?;
        file.write_all(&self.to_bytes()).map_err(|e| Error::io("write", self.name(), e))?;
        file.commit()
    }
}

/// What becomes a replacement character where the bytes are read as text, in order.
fn replaced(bytes: &[u8]) -> Vec<Vec<u8>> {
    let mut replaced = Vec::new();
    for chunk in bytes.utf8_chunks() {
        let known = chunk.valid().matches(char::REPLACEMENT_CHARACTER);
        replaced.extend(known.map(|c| c.as_bytes().to_vec()));
        if !chunk.invalid().is_empty() {
            replaced.push(chunk.invalid().to_vec());
        }
    }
    replaced
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn files_in_the_order_of_their_names() {
        let dir = tempfile::tempdir().unwrap();
        for name in
            ["b.pkr.hcl", "#a.pkr.hcl", "#a.pkr.hcl#", ".h.pkr.hcl", "x.pkr.hcl~", "v.pkrvars.hcl", "t.hcl"]
        {
            fs::write(dir.path().join(name), "").unwrap();
        }
        fs::create_dir_all(dir.path().join("m/.git")).unwrap();
        fs::write(dir.path().join("m/c.pkr.hcl"), "").unwrap();
        fs::write(dir.path().join("m/.git/c.pkr.hcl"), "").unwrap();
        #[cfg(unix)]
        std::os::unix::fs::symlink(dir.path(), dir.path().join("m/loop")).unwrap();
        let found = |recursive| {
            let (paths, wrong) = files(&dir.path().to_string_lossy(), recursive);
            assert!(wrong.is_empty());
            let inside = |p: &String| {
                Path::new(p).strip_prefix(dir.path()).unwrap().to_string_lossy().replace('\\', "/")
            };
            paths.iter().map(inside).collect::<Vec<_>>()
        };
        assert_eq!(found(false), ["#a.pkr.hcl", "b.pkr.hcl", "v.pkrvars.hcl"]);
        assert_eq!(found(true), ["#a.pkr.hcl", "b.pkr.hcl", "m/c.pkr.hcl", "v.pkrvars.hcl"]);
        assert_eq!(files("none", true).0, ["none"]);
    }

    #[test]
    fn comments_keep_their_bytes_and_nothing_else_may_be_another_encoding() {
        let file = Formatted::of("a.pkr.hcl", b"a=1 # gr\xfc\xdf \xef\xbf\xbd \xff\n".to_vec()).unwrap();
        assert_eq!(file.to_bytes(), b"a = 1 # gr\xfc\xdf \xef\xbf\xbd \xff\n");
        let wrong = Formatted::of("a.pkr.hcl", b"a=\"\xfc\"\n".to_vec()).unwrap_err();
        assert_eq!(wrong.iter().next().unwrap().summary, "Invalid character encoding");
    }

    #[cfg(feature = "diff")]
    #[test]
    fn diffs_have_three_lines_around_a_change() {
        let diff = |text: &str| Formatted::of("a.pkr.hcl", text.into()).unwrap().diff();
        assert_eq!(diff("a = 1\n"), "");
        assert_eq!(
            diff("#1\n#2\n#3\n#4\na=1\n#5\n#6\n#7\n#8\n"),
            "--- old/a.pkr.hcl\n+++ new/a.pkr.hcl\n@@ -2,7 +2,7 @@\n #2\n #3\n #4\n-a=1\n+a = 1\n #5\n #6\n #7\n"
        );
        assert_eq!(
            diff("a=1"),
            "--- old/a.pkr.hcl\n+++ new/a.pkr.hcl\n@@ -1 +1 @@\n-a=1\n\\ No newline at end of file\n+a = 1\n\\ No newline at end of file\n"
        );
    }
}
