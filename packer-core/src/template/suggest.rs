//! What a misspelt name probably meant.

use crate::diagnostic::{Diagnostics, did_you_mean};

/// So many findings that nobody reads them all.
pub(super) const MANY: usize = 50;

/// What a misspelt name probably meant. Looking for it takes time for each known name, so it is left out once so much is
/// wrong that nobody reads it.
pub(super) fn suggestion<'a>(
    word: &str,
    known: impl IntoIterator<Item = &'a str>,
    diagnostics: &Diagnostics,
) -> Option<&'a str> {
    if diagnostics.len() > MANY {
        return None;
    }
    did_you_mean(word, known)
}
