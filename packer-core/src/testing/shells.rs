//! What the behaviour suite of communicators asks a machine, in the words of its shell.

/// How far an output goes that is to be large, on each stream.
pub(super) const LARGE: usize = 3_000_000;

/// A machine's shell.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Shell {
    /// `sh`, with the programs of POSIX and `mktemp`, `head -c` and `stat -c`.
    Posix,
    /// `cmd` of Windows.
    Cmd,
}

impl Shell {
    /// Names of files that a careless hand would break.
    pub(super) fn names(self) -> &'static [&'static str] {
        match self {
            Self::Posix => &[
                "plain",
                "with space",
                "quote'single",
                "quote\"double",
                "größe-数",
                "back\\slash",
                "$HOME `id` *",
            ],
            Self::Cmd => &["plain", "with space", "quote'single", "größe-数", "a;b & c", "(paren) [bracket]"],
        }
    }

    /// Exit codes that a command may have.
    pub(super) fn codes(self) -> &'static [i32] {
        match self {
            Self::Posix => &[0, 1, 7, 126, 127, 255],
            Self::Cmd => &[0, 1, 7, 255, 3010, -1],
        }
    }

    /// The end of a line that `echo` prints.
    pub(super) fn end_of_line(self) -> &'static str {
        match self {
            Self::Posix => "\n",
            Self::Cmd => "\r\n",
        }
    }

    /// A word that means the text itself.
    fn word(self, text: &str) -> String {
        match self {
            Self::Posix => format!("'{}'", text.replace('\'', "'\\''")),
            Self::Cmd => format!("\"{}\"", text.replace('/', "\\")),
        }
    }

    /// Makes a new folder of this name for temporary things and prints its path.
    pub(super) fn make_temporary(self, name: &str) -> String {
        match self {
            Self::Posix => format!("mkdir -m 700 /tmp/{name} && echo /tmp/{name}"),
            Self::Cmd => format!("mkdir \"%TEMP%\\{name}\" && echo %TEMP%\\{name}"),
        }
    }

    /// Makes a folder and those it is in.
    pub(super) fn make_folder(self, path: &str) -> String {
        let path = self.word(path);
        match self {
            Self::Posix => format!("mkdir -p {path}"),
            Self::Cmd => format!("mkdir {path}"),
        }
    }

    /// Removes a folder with all that is in it.
    pub(super) fn remove_folder(self, path: &str) -> String {
        let path = self.word(path);
        match self {
            Self::Posix => format!("rm -rf {path}"),
            Self::Cmd => format!("rmdir /s /q {path}"),
        }
    }

    /// Ends well where there is such a folder.
    pub(super) fn is_folder(self, path: &str) -> String {
        match self {
            Self::Posix => format!("test -d {}", self.word(path)),
            Self::Cmd => format!("if exist {} (exit 0) else (exit 1)", self.word(&format!("{path}\\"))),
        }
    }

    /// Ends well where there is nothing of that name.
    pub(super) fn is_missing(self, path: &str) -> String {
        let path = self.word(path);
        match self {
            Self::Posix => format!("test ! -e {path}"),
            Self::Cmd => format!("if exist {path} (exit 1) else (exit 0)"),
        }
    }

    /// Prints how many bytes a file has.
    pub(super) fn size(self, path: &str) -> String {
        let path = self.word(path);
        match self {
            Self::Posix => format!("wc -c < {path}"),
            Self::Cmd => format!("for %I in ({path}) do @echo %~zI"),
        }
    }

    /// Prints `out` and `last` on standard output, `err` on standard error, each as a line.
    pub(super) fn both_streams(self) -> &'static str {
        match self {
            Self::Posix => "echo out; echo err >&2; echo last",
            Self::Cmd => "(echo out)&(echo err>&2)&(echo last)",
        }
    }

    /// Prints what it reads. `cmd` has nothing that leaves bytes as they are: lines of text.
    pub(super) fn copy_input(self) -> &'static str {
        match self {
            Self::Posix => "cat",
            Self::Cmd => "findstr \"^\"",
        }
    }

    /// Prints [`LARGE`] bytes on each stream.
    pub(super) fn large_output(self) -> String {
        match self {
            Self::Posix => format!(
                "head -c {} /dev/zero; head -c {LARGE} /dev/zero >&2; head -c {} /dev/zero",
                LARGE - 1000,
                1000
            ),
            Self::Cmd => {
                let (line, lines) = ("x".repeat(998), LARGE / 1000);
                format!(
                    "(for /l %i in (1,1,{lines}) do @echo {line})&(for /l %i in (1,1,{lines}) do @echo {line}>&2)"
                )
            }
        }
    }

    /// Prints a word, makes a file, and ends once another file is there.
    pub(super) fn meet(self, word: u8, own: &str, other: &str) -> String {
        let (own, other) = (self.word(own), self.word(other));
        match self {
            Self::Posix => {
                format!("echo {word} > {own}; until [ -e {other} ]; do sleep 0.02; done; echo {word}")
            }
            Self::Cmd => {
                format!("(echo {word})>{own}&for /l %i in (0,0,1) do @if exist {other} (echo {word}&exit)")
            }
        }
    }

    /// Does nothing for ten minutes.
    pub(super) fn sleep(self) -> &'static str {
        match self {
            Self::Posix => "sleep 600",
            Self::Cmd => "ping -n 600 127.0.0.1 >nul",
        }
    }

    /// Prints for ever.
    pub(super) fn endless_output(self) -> &'static str {
        match self {
            Self::Posix => "cat /dev/zero",
            Self::Cmd => "for /l %i in (0,0,1) do @echo on and on",
        }
    }
}
