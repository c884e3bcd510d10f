//! `packer fmt`: brings files into their canonical layout.

use packer_core::template::fmt::{Formatted, files};
use packer_core::{Diagnostic, Diagnostics};

use crate::flags::{self, Flag};
use crate::{FAILED, OK, Session};

pub(crate) const USAGE: &str = "Usage: packer fmt [options] [TEMPLATE]

  Brings templates (.pkr.hcl) and variable files (.pkrvars.hcl) into their canonical layout and names those that it
  changes. Only white space changes. JSON files are left alone.

  TEMPLATE is a file, a folder (\".\" for the current one) or several; with \"-\" the text comes from standard input
  and goes to standard output.

Options:

  -check         Change nothing; the exit code is 3 where something is not in canonical layout.
  -diff          Show what changes.
  -recursive     The folders in a folder too.
  -write=false   Change nothing, only name the files; always so with -check.
";

/// With `-check`: something is not in canonical layout.
const NOT_FORMATTED: u8 = 3;

/// The flags.
struct FmtFlags {
    check: bool,
    diff: bool,
    write: bool,
    recursive: bool,
}

pub(crate) async fn run(mut session: Session, args: Vec<String>) -> u8 {
    let mut fmt = FmtFlags { check: false, diff: false, write: true, recursive: false };
    let mut flags = [
        ("check", Flag::Switch(&mut fmt.check)),
        ("diff", Flag::Switch(&mut fmt.diff)),
        ("write", Flag::Switch(&mut fmt.write)),
        ("recursive", Flag::Switch(&mut fmt.recursive)),
    ];
    let paths = match flags::parse(&args, &mut flags) {
        Ok([]) => {
            session.ui.say(USAGE);
            return FAILED;
        }
        Ok(paths) => paths,
        Err(stop) => return session.misused(stop),
    };
    fmt.write &= !fmt.check;
    let (mut changed, mut findings) = (false, Diagnostics::new());
    for path in paths {
        if path == "-" {
            let bytes = match session.read_stdin().await {
                Ok(bytes) => bytes,
                Err(code) => return code,
            };
            match Formatted::of("-", bytes) {
                Ok(file) => {
                    changed |= file.is_changed();
                    if fmt.write {
                        session.ui.raw(&file.to_bytes());
                    }
                }
                Err(wrong) => findings.append(failed("-", wrong)),
            }
            continue;
        }
        let (files, unreadable) = files(path, fmt.recursive);
        findings.append(unreadable);
        for path in files {
            let name = path.clone();
            let read = match session.reading(move || Formatted::read(&name)).await {
                Ok(read) => read,
                Err(code) => return code,
            };
            match read.and_then(|file| one_file(&session, &fmt, &path, &file)) {
                Ok(is_changed) => changed |= is_changed,
                Err(wrong) => findings.append(failed(&path, wrong)),
            }
        }
    }
    // What is wrong with some files comes behind what was done with the others.
    session.ui.diagnostics(&findings);
    match (findings.has_errors(), changed && fmt.check) {
        (true, _) => FAILED,
        (false, true) => NOT_FORMATTED,
        (false, false) => OK,
    }
}

/// Formats a file as the flags say; whether it is not in canonical layout.
fn one_file(session: &Session, fmt: &FmtFlags, path: &str, file: &Formatted) -> Result<bool, Diagnostics> {
    if !file.is_changed() {
        return Ok(false);
    }
    session.ui.raw(format!("{path}\n").as_bytes());
    if fmt.write {
        file.write().map_err(|e| Diagnostic::error(e.to_string()))?;
    }
    if fmt.diff {
        session.ui.raw(file.diff().as_bytes());
    }
    Ok(true)
}

/// The finding that scripts know, and what is behind it.
fn failed(path: &str, wrong: Diagnostics) -> Diagnostics {
    let head = Diagnostic::error(format!("encountered an error while formatting {path}"));
    std::iter::once(head).chain(wrong).collect()
}
