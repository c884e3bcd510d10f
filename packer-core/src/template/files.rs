//! Files: which language a path is read in, and which files belong to a template.

use std::fs;
use std::io;
use std::path::{Component, Path, PathBuf};
use std::sync::Arc;

use crate::diagnostic::{Diagnostic, Diagnostics, SourceFile, Span};
use crate::error::os_text;
use crate::language::{LARGEST, decode, is_named_pipe, read_bounded};

/// How large a file of a template, or of values of its variables, may be, in bytes.
pub const LARGEST_FILE: usize = LARGEST;

/// The languages of templates.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub enum Language {
    /// Native and JSON syntax of the template language.
    Hcl,
    /// JSON templates of the first generation, and anything that is not named otherwise.
    LegacyJson,
}

impl Language {
    /// The language that a path is read in: names ending in `.pkr.hcl` or `.pkr.json` and folders are
    /// [`Hcl`](Self::Hcl), anything else is what the host says.
    pub fn of(working_dir: Option<&Path>, path: &str, otherwise: Self) -> Self {
        if path.ends_with(".pkr.hcl") || path.ends_with(".pkr.json") {
            return Self::Hcl;
        }
        if path != "-" && !path.is_empty() && resolve(working_dir, path).is_dir() {
            return Self::Hcl;
        }
        otherwise
    }
}

/// The files of a template.
#[derive(Debug, Clone)]
pub(super) struct TemplateFiles {
    /// In the order in which they are read.
    pub(super) files: Vec<String>,
    /// Variable files that need not be asked for, weakest first.
    pub(super) auto_vars: Vec<String>,
    /// `path.root`.
    pub(super) root: String,
}

/// Where a path lies for a host that works in a folder of its own.
pub(super) fn resolve(working_dir: Option<&Path>, path: &str) -> PathBuf {
    match working_dir {
        Some(dir) => dir.join(path),
        None => PathBuf::from(path),
    }
}

/// Finds the files of a template: of a folder all `*.pkr.hcl`, then all `*.pkr.json`, each in the order of their names'
/// bytes; of a file only that file.
pub(super) fn collect(working_dir: Option<&Path>, path: &str) -> Result<TemplateFiles, Diagnostics> {
    let place = resolve(working_dir, path);
    let metadata = fs::metadata(&place).map_err(|e| not_readable("stat", path, &e))?;
    if !metadata.is_dir() {
        if !path.ends_with(".pkr.hcl") && !path.ends_with(".pkr.json") {
            return Err(nothing_found(path).into());
        }
        let root = forward(&parent(path));
        return Ok(TemplateFiles { files: vec![path.to_owned()], auto_vars: Vec::new(), root });
    }
    let names = names_in(&place).map_err(|e| {
        Diagnostic::error("Cannot read hcl directory").detail(format!("open {path}: {}", os_text(&e)))
    })?;
    let of = |suffixes: [&'static str; 2]| -> Vec<String> {
        let ending = |suffix: &'static str| names.iter().filter(move |n| n.ends_with(suffix));
        suffixes.into_iter().flat_map(ending).map(|n| join(path, n)).collect()
    };
    let files = of([".pkr.hcl", ".pkr.json"]);
    if files.is_empty() {
        return Err(nothing_found(path).into());
    }
    let auto_vars = of([".auto.pkrvars.hcl", ".auto.pkrvars.json"]);
    // Nobody asked for this very file, so nobody is known to write into it.
    if let Some(pipe) = files.iter().chain(&auto_vars).find(|f| is_named_pipe(&resolve(working_dir, f))) {
        return Err(Diagnostic::error("Failed to read file")
            .detail(format!("{pipe:?} is a named pipe. One is read only where it is given by its own path."))
            .into());
    }
    Ok(TemplateFiles { files, auto_vars, root: forward(path) })
}

fn nothing_found(path: &str) -> Diagnostic {
    Diagnostic::error(format!("Could not find any config file in {path}"))
        .detail("The name of a template file ends in `.pkr.hcl` or `.pkr.json`; a folder of such files can be given as well.")
}

fn not_readable(verb: &str, path: &str, error: &io::Error) -> Diagnostic {
    Diagnostic::error("").detail(format!("{verb} {path}: {}", os_text(error)))
}

/// The names of the files in a folder, in the order of their bytes. Names that are no Unicode are no template's.
fn names_in(folder: &Path) -> io::Result<Vec<String>> {
    let mut names = Vec::new();
    for entry in fs::read_dir(folder)? {
        let entry = entry?;
        let is_dir = fs::metadata(entry.path()).is_ok_and(|m| m.is_dir());
        if let (false, Ok(name)) = (is_dir, entry.file_name().into_string()) {
            names.push(name);
        }
    }
    names.sort_unstable();
    Ok(names)
}

/// Reads a file under the name that messages show for it.
///
/// A text that is not UTF-8 is an error, except in comments.
pub(super) fn read(
    working_dir: Option<&Path>,
    name: &str,
    diagnostics: &mut Diagnostics,
) -> Option<Arc<SourceFile>> {
    match read_bounded(&resolve(working_dir, name), LARGEST) {
        Ok(bytes) => decode(name, bytes, diagnostics),
        Err(e) => {
            diagnostics.push(
                Diagnostic::error("Failed to read file")
                    .detail(format!("{name:?} cannot be read: {}.", os_text(&e))),
            );
            None
        }
    }
}

/// Reads a file of the first generation under the name that messages show for it. As Packer does, bytes that are no UTF-8
/// are replaced; that is a warning.
pub(super) fn read_lossy(
    working_dir: Option<&Path>,
    name: &str,
) -> Result<(Arc<SourceFile>, Option<Diagnostic>), Diagnostics> {
    let failed = |detail: String| Diagnostics::from(Diagnostic::error("Failed to read file").detail(detail));
    let bytes = read_bounded(&resolve(working_dir, name), LARGEST)
        .map_err(|e| failed(format!("open {name}: {}", os_text(&e))))?;
    Ok(lossy(name, bytes))
}

/// A text of which bytes that are no UTF-8 are replaced, with a warning where there are any.
pub(super) fn lossy(name: &str, bytes: Vec<u8>) -> (Arc<SourceFile>, Option<Diagnostic>) {
    let error = match String::from_utf8(bytes) {
        Ok(text) => return (SourceFile::new(name, text), None),
        Err(error) => error,
    };
    // Up to there nothing was replaced.
    let at = error.utf8_error().valid_up_to() as u32;
    let source = SourceFile::new(name, String::from_utf8_lossy(error.as_bytes()));
    let warning = Diagnostic::warning("Invalid character encoding")
        .detail("This is no UTF-8, so every byte that does not belong there becomes the character U+FFFD. See to it that your editor saves this file as UTF-8.")
        .at(Span::new(at, at + 3).in_source(&source));
    (source, Some(warning))
}

/// A folder and a name as one path, without needless steps: `.` and `a.hcl` are `a.hcl`.
pub(super) fn join(folder: &str, name: &str) -> String {
    clean(&Path::new(folder).join(name))
}

/// Where a path lies that is relative to the folder of the template.
pub(super) fn in_template(working_dir: Option<&Path>, root: &str, path: &str) -> PathBuf {
    resolve(working_dir, &join(root, path))
}

/// The folder a file lies in; `.` for a bare name.
pub(super) fn parent(path: &str) -> String {
    clean(Path::new(path).parent().unwrap_or(Path::new("")))
}

/// The shortest path that means the same as far as its text tells; `.` for none.
pub(super) fn clean(path: &Path) -> String {
    let mut parts: Vec<Component<'_>> = Vec::new();
    for part in path.components() {
        match (part, parts.last()) {
            (Component::CurDir, _) => {}
            (Component::ParentDir, Some(Component::Normal(_))) => drop(parts.pop()),
            (Component::ParentDir, Some(Component::RootDir)) => {}
            _ => parts.push(part),
        }
    }
    if parts.is_empty() {
        return ".".into();
    }
    // The path was made of text, so nothing is lost.
    parts.iter().collect::<PathBuf>().to_string_lossy().into_owned()
}

/// With the separators that templates use on every system.
pub(super) fn forward(path: &str) -> String {
    if cfg!(windows) { path.replace('\\', "/") } else { path.to_owned() }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn paths_are_cleaned() {
        for (folder, name, joined) in [
            (".", "a", "a"),
            ("./tpl/../tpl/", "a", "tpl/a"),
            ("/", "a", "/a"),
            ("../x", "a", "../x/a"),
            ("a/../..", "b", "../b"),
        ] {
            assert_eq!(join(folder, name), joined);
        }
        for (path, folder) in
            [("a.pkr.hcl", "."), ("tpl/a.pkr.hcl", "tpl"), ("/a.pkr.hcl", "/"), ("./x/../y/a", "y")]
        {
            assert_eq!(parent(path), folder);
        }
    }

    #[test]
    fn files_come_in_byte_order_native_first() {
        let dir = tempfile::tempdir().unwrap();
        for name in [
            "b.pkr.hcl",
            "Z.pkr.hcl",
            ".h.pkr.hcl",
            "a.pkr.json",
            "x.hcl",
            "2.auto.pkrvars.hcl",
            "1.auto.pkrvars.json",
            "y.pkrvars.hcl",
        ] {
            fs::write(dir.path().join(name), "").unwrap();
        }
        fs::create_dir(dir.path().join("d.pkr.hcl")).unwrap();
        let found = collect(Some(dir.path()), ".").unwrap();
        assert_eq!(found.files, [".h.pkr.hcl", "Z.pkr.hcl", "b.pkr.hcl", "a.pkr.json"]);
        assert_eq!(found.auto_vars, ["2.auto.pkrvars.hcl", "1.auto.pkrvars.json"]);
        assert_eq!(found.root, ".");
        let one = collect(Some(dir.path()), "./b.pkr.hcl").unwrap();
        assert_eq!(
            (one.files, one.auto_vars.len(), one.root.as_str()),
            (vec!["./b.pkr.hcl".to_owned()], 0, ".")
        );
        assert_eq!(
            collect(Some(dir.path()), "none.pkr.hcl").unwrap_err().iter().next().unwrap().detail,
            "stat none.pkr.hcl: no such file or directory"
        );
        assert_eq!(
            collect(Some(dir.path()), "x.hcl").unwrap_err().iter().next().unwrap().summary,
            "Could not find any config file in x.hcl"
        );
        assert_eq!(Language::of(Some(dir.path()), ".", Language::LegacyJson), Language::Hcl);
        assert_eq!(Language::of(Some(dir.path()), "x.hcl", Language::LegacyJson), Language::LegacyJson);
    }
}
