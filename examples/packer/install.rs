//! Completion in the user's shells: `packer -autocomplete-install` sets it up, `-autocomplete-uninstall` takes it out.
//!
//! As for other programs of this kind, bash and zsh get a line in the file that they read when they start, fish a file of
//! its own. All of them then call the program with `COMP_LINE` and `COMP_POINT` set (`complete.rs`).

use std::collections::BTreeMap;
use std::io::Write;
use std::path::{Path, PathBuf};

use packer_core::{Error, Result, WholeFile};

use crate::ui::Ui;
use crate::{FAILED, OK};

/// How zsh completes: with a function of its own, since its stand-in for the `complete` of bash takes no candidates with blanks.
/// `COMP_POINT` counts bytes; no space comes behind a folder or an `=`; zsh would quote a `~` that it is given.
const ZSH: &str = "(( $+functions[compdef] )) || { autoload -Uz compinit && compinit }; \
    _packer() { \
    emulate -L zsh; setopt no_multibyte; \
    local line=${(j: :)words} \
    point=$(( ${#${(j: :)words[1,CURRENT-1]}} + 1 + $#QIPREFIX + $#IPREFIX + $#PREFIX )); \
    local -a found=(${(f)\"$(COMP_LINE=$line COMP_POINT=$point PROGRAM)\"}); \
    setopt multibyte; \
    compset -P '\\~/' && found=(${found#\\~/}); \
    compadd -S '' -- ${(M)found:#*[=/]}; compadd -- ${found:#*[=/]} \
    }; compdef _packer packer";

/// How fish calls the program.
const FISH: &str = "(env COMP_LINE=(commandline --current-process | string collect) \
    COMP_POINT=(math (commandline --cut-at-cursor --current-process | wc -c) - 1) PROGRAM)";

/// What a shell reads.
#[derive(Debug, PartialEq)]
enum Setup {
    /// A file with lines of others, and ours.
    Line { file: PathBuf, line: String },
    /// A file of our own.
    File { file: PathBuf, text: String },
}

/// Does what the flags say, for every shell whose files are there.
pub(crate) fn run(ui: &Ui, env: &BTreeMap<String, String>, install: bool, uninstall: bool) -> u8 {
    if install && uninstall {
        ui.error("-autocomplete-install and -autocomplete-uninstall exclude each other.");
        return FAILED;
    }
    let program = match std::env::current_exe() {
        Ok(path) => path,
        Err(error) => {
            ui.error(&format!("The path of this program is not known: {error}"));
            return FAILED;
        }
    };
    let shells = shells(env, &program);
    if shells.is_empty() {
        ui.error("No shell was found: there is no .bashrc, .bash_profile, .bash_login, .profile, .zshrc or folder of fish.");
        return FAILED;
    }
    let mut code = OK;
    for shell in shells {
        if let Err(error) = if install { shell.install() } else { shell.uninstall() } {
            ui.error(&error.to_string());
            code = FAILED;
        }
    }
    code
}

/// The shells that the user has set up.
fn shells(env: &BTreeMap<String, String>, program: &Path) -> Vec<Setup> {
    let set = |name: &str| env.get(name).filter(|value| !value.is_empty()).map(PathBuf::from);
    let Some(home) = set("HOME") else { return Vec::new() };
    let path = program.to_string_lossy();
    let program = quoted(&path);
    // The shell splits the line into words, and the word behind -C once more.
    let command = quoted(&program);
    let first = |names: &[&str]| names.iter().map(|name| home.join(name)).find(|path| path.is_file());
    let mut found = Vec::new();
    // A terminal of macOS starts a login shell, which reads no .bashrc.
    let bash: &[&str] = match cfg!(target_os = "macos") {
        true => &[".bash_profile"],
        false => &[".bashrc", ".bash_profile", ".bash_login", ".profile"],
    };
    if let Some(file) = first(bash) {
        found.push(Setup::Line { file, line: format!("complete -C {command} packer") });
    }
    if let Some(file) = first(&[".zshrc"]) {
        found.push(Setup::Line { file, line: ZSH.replace("PROGRAM", &program) });
    }
    let fish = set("XDG_CONFIG_HOME").unwrap_or_else(|| home.join(".config")).join("fish");
    if fish.is_dir() {
        let inner = FISH.replace("PROGRAM", &fish_quoted(&path));
        let text = format!("complete --command packer --no-files --arguments {}\n", fish_quoted(&inner));
        found.push(Setup::File { file: fish.join("completions/packer.fish"), text });
    }
    found
}

/// A word as a POSIX shell reads it.
fn quoted(word: &str) -> String {
    let plain = |c: char| c.is_ascii_alphanumeric() || "/._-+,:@%".contains(c);
    if !word.is_empty() && word.chars().all(plain) {
        return word.to_owned();
    }
    format!("'{}'", word.replace('\'', "'\\''"))
}

/// A word as fish reads it.
fn fish_quoted(word: &str) -> String {
    format!("'{}'", word.replace('\\', "\\\\").replace('\'', "\\'"))
}

impl Setup {
    fn file(&self) -> &Path {
        match self {
            Self::Line { file, .. } | Self::File { file, .. } => file,
        }
    }

    /// What is in the file; nothing where there is none.
    fn text(&self) -> Result<String> {
        match std::fs::read(self.file()) {
            Ok(bytes) => String::from_utf8(bytes)
                .map_err(|_| Error::user(format!("{} is no text in UTF-8", self.file().display()))),
            Err(e) if e.kind() == std::io::ErrorKind::NotFound => Ok(String::new()),
            Err(e) => Err(Error::io("open", self.file(), e)),
        }
    }

    fn is_installed(&self, text: &str) -> bool {
        match self {
            Self::Line { line, .. } => has_line(text, line),
            Self::File { text: own, .. } => text == own,
        }
    }

    fn install(&self) -> Result<()> {
        let mut text = self.text()?;
        if self.is_installed(&text) {
            return Err(Error::user(format!("already installed in {}", self.file().display())));
        }
        match self {
            Self::Line { line, .. } => {
                if !text.is_empty() && !text.ends_with('\n') {
                    text.push('\n');
                }
                text.push_str(line);
                text.push('\n');
                self.write(&text)
            }
            Self::File { text, .. } => {
                if let Some(folder) = self.file().parent() {
                    std::fs::create_dir_all(folder).map_err(|e| Error::io("mkdir", folder, e))?;
                }
                self.write(text)
            }
        }
    }

    fn uninstall(&self) -> Result<()> {
        let text = self.text()?;
        if !self.is_installed(&text) {
            return Err(Error::user(format!("not installed in {}", self.file().display())));
        }
        match self {
            Self::Line { line, .. } => {
                let rest: String = text.split_inclusive('\n').filter(|l| l.trim() != line).collect();
                self.write(&rest)
            }
            Self::File { file, .. } => std::fs::remove_file(file).map_err(|e| Error::io("remove", file, e)),
        }
    }

    /// Writes the file whole; links to it stay, and its permissions.
    fn write(&self, text: &str) -> Result<()> {
        let mut file = WholeFile::create_outside_of_a_run(self.file(), 0o644)?;
        file.write_all(text.as_bytes()).map_err(|e| Error::io("write", self.file(), e))?;
        file.commit()
    }
}

fn has_line(text: &str, line: &str) -> bool {
    text.lines().any(|l| l.trim() == line)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn env(home: &Path) -> BTreeMap<String, String> {
        [("HOME".to_owned(), home.display().to_string())].into()
    }

    #[test]
    fn paths_are_words_whatever_is_in_them() {
        assert_eq!(quoted("/usr/bin/packer"), "/usr/bin/packer");
        assert_eq!(quoted("/o'b c"), r"'/o'\''b c'");
        let home = tempfile::tempdir().unwrap();
        std::fs::write(home.path().join(".profile"), "").unwrap();
        let found = shells(&env(home.path()), Path::new("/my programs/packer"));
        let line = r"complete -C ''\''/my programs/packer'\''' packer".to_owned();
        if cfg!(not(target_os = "macos")) {
            let file = home.path().join(".profile");
            assert_eq!(found, [Setup::Line { file, line }]);
        }
        assert_eq!(shells(&BTreeMap::new(), Path::new("/p")), []);
    }

    #[test]
    fn what_was_installed_goes_again_and_all_else_stays() {
        let home = tempfile::tempdir().unwrap();
        let at = |name: &str| home.path().join(name);
        std::fs::create_dir_all(at(".config/fish")).unwrap();
        std::fs::write(at(".bash_profile"), "alias x=y").unwrap();
        std::fs::write(at(".zshrc"), "setopt y\n").unwrap();
        let read = |name: &str| std::fs::read_to_string(at(name)).unwrap();
        let shells = shells(&env(home.path()), Path::new("/p/packer"));
        assert_eq!(shells.len(), 3);
        shells.iter().for_each(|shell| shell.install().unwrap());
        assert_eq!(read(".bash_profile"), "alias x=y\ncomplete -C /p/packer packer\n");
        let zsh = ZSH.replace("PROGRAM", "/p/packer");
        assert!(zsh.contains(" /p/packer)"));
        assert_eq!(read(".zshrc"), format!("setopt y\n{zsh}\n"));
        assert!(read(".config/fish/completions/packer.fish").contains("/p/packer"));
        for shell in &shells {
            let error = shell.install().unwrap_err();
            assert_eq!(error.message(), format!("already installed in {}", shell.file().display()));
        }
        shells.iter().for_each(|shell| shell.uninstall().unwrap());
        assert_eq!(read(".bash_profile"), "alias x=y\n");
        assert_eq!(read(".zshrc"), "setopt y\n");
        assert!(!at(".config/fish/completions/packer.fish").exists());
        for shell in &shells {
            let error = shell.uninstall().unwrap_err();
            assert_eq!(error.message(), format!("not installed in {}", shell.file().display()));
        }
    }
}
