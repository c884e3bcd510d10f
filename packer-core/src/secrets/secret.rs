//! The type of a field that holds a secret.

use std::borrow::Cow;
use std::cell::Cell;
use std::fmt;

use super::REDACTED;

/// A text in a configuration that must not be shown: a password, a key. `Debug` hides it and it serializes as
/// `<sensitive>`, so that it cannot end in a ledger or an artifact by accident.
///
/// What a template says for a field of this type is registered with the [`Secrets`](super::Secrets) of the run when the
/// configuration is read, and what code says when the pipeline is prepared. One that comes from elsewhere is registered by
/// whoever finds it: `cx.secrets().add(password.reveal())`.
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
