//! Secrets: texts that must not leave the process in clear, and the scrubbing of everything that does.

use std::borrow::Cow;
use std::cell::Cell;
use std::collections::BTreeSet;
use std::fmt;
use std::sync::{Arc, RwLock};

use aho_corasick::{AhoCorasick, MatchKind};

/// What a secret becomes in any output.
pub const REDACTED: &str = "<sensitive>";

/// The secrets of a run. Cheap to clone; every clone knows what any of them learned.
///
/// Registering a text registers each of its lines too, because output is scrubbed line by line. Longer
/// secrets are replaced first, so that an overlap leaves no fragment.
///
/// ```
/// let secrets = packer_core::Secrets::new();
/// secrets.add("hunter2");
/// assert_eq!(secrets.scrub("password is hunter2"), "password is <sensitive>");
/// ```
#[derive(Clone, Default)]
pub struct Secrets(Arc<RwLock<Known>>);

#[derive(Default)]
struct Known {
    texts: BTreeSet<String>,
    finder: Option<AhoCorasick>,
}

impl Secrets {
    /// No secrets yet.
    pub fn new() -> Self {
        Self::default()
    }

    /// Registers a text; an empty one is ignored.
    ///
    /// Of a text of several lines each line of three characters or more is a secret by itself: a line such
    /// as `}` would scrub every brace of the output.
    pub fn add(&self, text: &str) {
        let mut known = self.0.write().unwrap_or_else(std::sync::PoisonError::into_inner);
        let before = known.texts.len();
        let whole = text.trim_end_matches(['\r', '\n']);
        if !whole.is_empty() {
            known.texts.insert(whole.to_owned());
            known.texts.insert(whole.replace("\r\n", "\n"));
        }
        if whole.contains('\n') {
            let lines = whole.lines().filter(|line| line.trim().chars().count() > 2);
            known.texts.extend(lines.map(str::to_owned));
        }
        if known.texts.len() != before {
            // Building fails only on more than 2^31 bytes of secrets; without a finder everything is scrubbed whole.
            known.finder =
                AhoCorasick::builder().match_kind(MatchKind::LeftmostLongest).build(&known.texts).ok();
        }
    }

    /// The text with every secret in it replaced by [`REDACTED`].
    pub fn scrub<'a>(&self, text: impl Into<Cow<'a, str>>) -> Cow<'a, str> {
        let text = text.into();
        let known = self.0.read().unwrap_or_else(std::sync::PoisonError::into_inner);
        if known.texts.is_empty() {
            return text;
        }
        let Some(finder) = &known.finder else { return Cow::Borrowed(REDACTED) };
        if !finder.is_match(text.as_ref()) {
            return text;
        }
        let mut scrubbed = String::with_capacity(text.len());
        finder.replace_all_with(&text, &mut scrubbed, |_, _, out| {
            out.push_str(REDACTED);
            true
        });
        Cow::Owned(scrubbed)
    }

    /// The text with every byte of a secret in it replaced by `*`, so that places in it stay; `None` where there is
    /// no secret in it.
    pub(crate) fn mask(&self, text: &str) -> Option<String> {
        let known = self.0.read().unwrap_or_else(std::sync::PoisonError::into_inner);
        let blank = |bytes: usize| "*".repeat(bytes);
        let Some(finder) = &known.finder else { return (!known.texts.is_empty()).then(|| blank(text.len())) };
        let mut masked = String::new();
        let mut done = 0;
        for found in finder.find_iter(text) {
            masked.push_str(&text[done..found.start()]);
            // Line ends stay, or the lines would be others.
            let secret = &text[found.range()];
            masked.extend(secret.bytes().map(|b| if b == b'\n' { '\n' } else { '*' }));
            done = found.end();
        }
        masked.push_str(&text[done..]);
        (done > 0).then_some(masked)
    }

    /// The text taken apart at the secrets in it.
    #[cfg(feature = "hcl")]
    pub(crate) fn pieces<'t>(&self, text: &'t str) -> Vec<Piece<'t>> {
        let known = self.0.read().unwrap_or_else(std::sync::PoisonError::into_inner);
        let Some(finder) = &known.finder else {
            let whole = if known.texts.is_empty() { Piece::Plain(text) } else { Piece::Secret(text) };
            return vec![whole];
        };
        let (mut pieces, mut done) = (Vec::new(), 0);
        for found in finder.find_iter(text) {
            if found.start() > done {
                pieces.push(Piece::Plain(&text[done..found.start()]));
            }
            pieces.push(Piece::Secret(&text[found.range()]));
            done = found.end();
        }
        if done < text.len() {
            pieces.push(Piece::Plain(&text[done..]));
        }
        pieces
    }

    /// Whether any secret is known.
    pub fn is_empty(&self) -> bool {
        self.0.read().unwrap_or_else(std::sync::PoisonError::into_inner).texts.is_empty()
    }
}

/// A part of a text.
#[cfg(feature = "hcl")]
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Piece<'t> {
    /// Anybody may see it.
    Plain(&'t str),
    /// Nobody may.
    Secret(&'t str),
}

/// Says how many, never which.
impl fmt::Debug for Secrets {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let known = self.0.read().unwrap_or_else(std::sync::PoisonError::into_inner);
        write!(f, "Secrets({})", known.texts.len())
    }
}

/// A text in a configuration that must not be shown: a password, a key. `Debug` hides it and it serializes as
/// `<sensitive>`, so that it cannot end in a ledger or an artifact by accident.
///
/// Whoever uses it registers it first: `cx.secrets().add(password.reveal())`.
#[derive(Clone, Default, PartialEq, Eq, serde::Deserialize)]
#[serde(transparent)]
pub struct Secret(String);

impl Secret {
    /// Hides a text.
    pub fn new(text: impl Into<String>) -> Self {
        Self(text.into())
    }

    /// The text in clear.
    pub fn reveal(&self) -> &str {
        &self.0
    }

    /// Whether the text is empty, which in a configuration means that it is not set.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }
}

impl serde::Serialize for Secret {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        if REVEAL.get() {
            serializer.collect_map([(REVEALED, &self.0)])
        } else {
            serializer.serialize_str(REDACTED)
        }
    }
}

/// The only field of the object that stands for a secret inside [`reveal`].
pub(crate) const REVEALED: &str = "\0secret";

thread_local! {
    static REVEAL: Cell<bool> = const { Cell::new(false) };
}

/// Runs `serialize` with secrets written as objects of one field, [`REVEALED`]: for whoever turns a configuration into
/// a value that keeps the mark.
pub(crate) fn reveal<T>(serialize: impl FnOnce() -> T) -> T {
    struct Hide;
    impl Drop for Hide {
        fn drop(&mut self) {
            REVEAL.set(false);
        }
    }
    let _hide = Hide;
    REVEAL.set(true);
    serialize()
}

impl From<&str> for Secret {
    fn from(text: &str) -> Self {
        Self::new(text)
    }
}

impl From<String> for Secret {
    fn from(text: String) -> Self {
        Self(text)
    }
}

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(REDACTED)
    }
}

impl schemars::JsonSchema for Secret {
    fn inline_schema() -> bool {
        true
    }

    fn schema_name() -> Cow<'static, str> {
        "Secret".into()
    }

    fn json_schema(_: &mut schemars::SchemaGenerator) -> schemars::Schema {
        schemars::json_schema!({ "type": "string", "writeOnly": true })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn scrubs_the_longest_match_and_each_line() {
        let secrets = Secrets::new();
        secrets.add("");
        assert!(secrets.is_empty());
        secrets.add("abc");
        secrets.add("abcdef");
        secrets.add("-----BEGIN-----\r\nline two\n}\n");
        assert_eq!(secrets.scrub("xabcdefx abc"), "x<sensitive>x <sensitive>");
        assert_eq!(secrets.scrub("only line two here }"), "only <sensitive> here }");
        assert_eq!(secrets.mask("é abc\n").as_deref(), Some("é ***\n"));
        assert_eq!(secrets.mask("ab"), None);
        assert_eq!(format!("{secrets:?}"), "Secrets(6)");
        assert!(matches!(secrets.scrub("nothing"), Cow::Borrowed(_)));
    }
}
