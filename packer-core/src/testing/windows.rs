//! What stands in for Windows behind a WinRM server of the tests: a table of files, and the scripts by which they move.

use std::collections::BTreeMap;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;

use super::winrm::between;

/// What a command does.
#[derive(Debug, Clone, Default)]
pub struct Reply {
    /// What it prints.
    pub stdout: Vec<u8>,
    /// What it prints as errors.
    pub stderr: Vec<u8>,
    /// How it ends; `None`: not by itself.
    pub code: Option<i32>,
    /// It prints that again and again.
    pub repeats: bool,
    /// It waits for this file, by its path in small letters with `/`, before anything else.
    pub until: Option<String>,
    /// The connection is closed where its output is asked for.
    pub hangs_up: bool,
}

impl Reply {
    /// Ends with a code, without a word.
    pub fn code(code: i32) -> Self {
        Self { code: Some(code), ..Self::default() }
    }

    /// Prints something and ends well.
    pub fn prints(text: impl Into<Vec<u8>>) -> Self {
        Self { stdout: text.into(), ..Self::code(0) }
    }

    /// Prints an error and ends with a code.
    pub fn fails(text: impl Into<Vec<u8>>, code: i32) -> Self {
        Self { stderr: text.into(), ..Self::code(code) }
    }

    /// Runs until it is ended.
    pub fn forever() -> Self {
        Self::default()
    }

    /// The connection breaks while it runs.
    pub fn hangs_up() -> Self {
        Self { hangs_up: true, ..Self::default() }
    }
}

/// A machine.
#[derive(Default)]
pub(super) struct Windows {
    /// Files by [`key`]; a folder that was made has a slash at its end.
    pub(super) files: BTreeMap<String, Vec<u8>>,
    /// The commands and scripts that ran.
    pub(super) log: Vec<String>,
    /// What `echo` has written to temporary files, by their names.
    temporary: BTreeMap<String, String>,
}

impl Windows {
    /// Runs a command line that moves files. Any other one is noted and given back, or the script that it holds.
    pub(super) fn run(&mut self, text: &str, stdin: &[u8]) -> Result<Reply, String> {
        let Some((_, encoded)) = text.split_once("-EncodedCommand ") else {
            return self.echo(text).ok_or_else(|| self.noted(text));
        };
        let bytes = STANDARD.decode(encoded.trim()).unwrap_or_default();
        let units: Vec<u16> =
            bytes.chunks_exact(2).map(|pair| u16::from_le_bytes([pair[0], pair[1]])).collect();
        let script = String::from_utf16_lossy(&units);
        let script = script.strip_prefix("$ProgressPreference = 'SilentlyContinue';").unwrap_or(&script);
        self.script(script, stdin).ok_or_else(|| self.noted(script))
    }

    /// A part of an upload.
    fn echo(&mut self, text: &str) -> Option<Reply> {
        let (data, name) = text.strip_prefix("echo ")?.split_once(" >> \"%TEMP%\\")?;
        self.temporary.entry(name.trim_end_matches('"').to_owned()).or_default().push_str(data);
        Some(Reply::code(0))
    }

    fn script(&mut self, script: &str, stdin: &[u8]) -> Option<Reply> {
        let said = |name: &str| between(script, name, "\n").map(|path| key(&path));
        let full_path = |n: usize| {
            let found = script.split("GetFullPath(\"").nth(n + 1)?.split("\")").next()?;
            Some(found.to_owned())
        };
        let into_folder = || Some(Reply::fails("the destination is a folder\r\n", 1));
        if let Some(path) = said("# conform-upload-base64 ") {
            if self.is_folder(&path) {
                return into_folder();
            }
            let text: Vec<u8> = stdin.iter().copied().filter(|byte| !byte.is_ascii_whitespace()).collect();
            let Ok(content) = STANDARD.decode(text) else { return Some(Reply::fails("no base64\r\n", 1)) };
            let receipt = receipt(&content);
            self.files.insert(path, content);
            return Some(Reply::prints(receipt));
        }
        if let Some(path) = said("# conform-download ") {
            return Some(match self.files.get(&path) {
                Some(content) => Reply::prints(lines(content)),
                None => Reply::fails("Could not find the file.\r\n", 1),
            });
        }
        if script.contains("$file = $null; $count = 0") {
            return Some(self.receive_many(&full_path(0)?, stdin));
        }
        if script.contains("packer-folder") {
            let path = between(script, "$path = \"", "\"")?;
            return Some(self.send_many(&path, script.contains("if ($true ")));
        }
        if script.contains("$dest_file_path") {
            let name = full_path(0)?.replace("$env:TEMP\\", "");
            let path = key(&full_path(1)?);
            let content = self.temporary.remove(&name).unwrap_or_default();
            if self.is_folder(&path) {
                return into_folder();
            }
            self.files.insert(path, STANDARD.decode(content).unwrap_or_default());
            return Some(Reply::code(0));
        }
        if script.contains("Remove-Item $tmp_file_path") {
            for path in (0..).map_while(full_path) {
                self.temporary.remove(&path.replace("$env:TEMP\\", ""));
                self.files.remove(&key(&path));
            }
            return Some(Reply::code(0));
        }
        if script.contains("WinRM connected.") {
            return Some(Reply::prints("WinRM connected.\r\n"));
        }
        None
    }

    fn noted(&mut self, text: &str) -> String {
        self.log.push(text.to_owned());
        if let Some((_, path)) = text.split_once(" -file ") {
            self.removals(path.trim_matches('"'));
        }
        text.to_owned()
    }

    /// Does what a script says that removes files, line by line.
    fn removals(&mut self, path: &str) {
        let script = self.files.get(&key(path)).map(|script| String::from_utf8_lossy(script).into_owned());
        for line in script.unwrap_or_default().lines() {
            if let Some(path) = line.strip_prefix("if (Test-Path ").and_then(|rest| rest.split_once(") {")) {
                self.files.remove(&key(path.0));
            }
        }
    }

    /// Files in a row, as lines.
    fn receive_many(&mut self, folder: &str, stdin: &[u8]) -> Reply {
        self.make_folder(folder);
        let mut count = 0;
        let mut name = String::new();
        for line in String::from_utf8_lossy(stdin).lines() {
            let decoded = STANDARD.decode(line.trim_start_matches(['<', '>'])).unwrap_or_default();
            let path = key(&format!("{folder}/{}", String::from_utf8_lossy(&decoded)));
            if line.starts_with('<') {
                self.make_folder(&path);
            } else if line.starts_with('>') {
                name = path;
                self.files.insert(name.clone(), Vec::new());
                count += 1;
            } else {
                self.files.entry(name.clone()).or_default().extend(decoded);
            }
        }
        Reply::prints(format!("packer-received {count}\r\n"))
    }

    /// A folder, or what a pattern with a star at its end names, as lines.
    fn send_many(&self, path: &str, contents: bool) -> Reply {
        let path = key(path).trim_end_matches('/').to_owned();
        let (parent, name) = path.rsplit_once('/').unwrap_or(("", &path));
        let inner = match name.strip_suffix('*') {
            Some(begin) => format!("{parent}/{begin}"),
            None if self.is_folder(&path) => format!("{path}/"),
            None => String::new(),
        };
        let cut = if contents { path.len() } else { parent.len() } + 1;
        let found: Vec<_> = self.files.iter().filter(|(file, _)| file.starts_with(&inner)).collect();
        if inner.is_empty() || found.is_empty() {
            return Reply::fails("nothing matches\r\n", 1);
        }
        let (mut text, mut files) = (String::new(), 0);
        for (file, content) in found {
            let name = file.get(cut..).unwrap_or_default();
            match name.strip_suffix('/') {
                Some(folder) => text += &format!("<{}\r\n", STANDARD.encode(folder)),
                None if name.is_empty() => {}
                None => {
                    files += 1;
                    text += &format!(">{}\r\n{}", STANDARD.encode(name), lines(content));
                }
            }
        }
        Reply::prints(format!("packer-folder {files} 0\r\n{text}packer-folder {files}\r\n"))
    }

    pub(super) fn is_folder(&self, path: &str) -> bool {
        let inner = format!("{}/", key(path).trim_end_matches('/'));
        self.files.range(inner.clone()..).next().is_some_and(|(file, _)| file.starts_with(&inner))
    }

    pub(super) fn make_folder(&mut self, path: &str) {
        self.files.entry(format!("{}/", key(path).trim_end_matches('/'))).or_default();
    }
}

fn receipt(content: &[u8]) -> String {
    use sha2::Digest;
    let digest: String = sha2::Sha256::digest(content).iter().map(|byte| format!("{byte:02x}")).collect();
    format!("packer-received {} {digest}\r\n", content.len())
}

/// A path by which a file is found: small letters, `/`.
pub(super) fn key(path: &str) -> String {
    let mut path = path.replace('\\', "/").to_lowercase();
    while path.contains("//") {
        path = path.replace("//", "/");
    }
    path
}

/// A file as the lines in which it is sent.
fn lines(content: &[u8]) -> String {
    content.chunks(49_152).map(|part| format!("{}\r\n", STANDARD.encode(part))).collect()
}
