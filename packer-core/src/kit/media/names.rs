//! Short names: eight characters, a dot and three, each once in its folder.

use std::collections::{HashMap, HashSet};

/// The short names of one folder.
#[derive(Debug, Default)]
pub(super) struct ShortNames {
    taken: HashSet<(String, String)>,
    /// Where to go on counting behind the beginning of a name.
    next: HashMap<(String, String), u32>,
}

impl ShortNames {
    /// Takes a name that is short as it is; false where it is taken.
    pub(super) fn take(&mut self, stem: &str, extension: &str) -> bool {
        self.taken.insert((stem.to_owned(), extension.to_owned()))
    }

    /// A short name for a long one: of capitals, digits and `_`, with a number behind `mark` where it takes one to be unique.
    pub(super) fn make(&mut self, name: &str, has_extension: bool, mark: &str) -> (String, String) {
        let (stem, extension) = match name.rsplit_once('.') {
            Some((stem, extension)) if has_extension && !stem.is_empty() => (stem, extension),
            _ => (name, ""),
        };
        let plain = |text: &str, most: usize| -> String {
            let plain = |c: char| if c.is_ascii_alphanumeric() { c.to_ascii_uppercase() } else { '_' };
            text.chars().take(most).map(plain).collect()
        };
        let (stem, extension) = (plain(stem, 8), plain(extension, 3));
        if mark == "_" && self.take(&stem, &extension) {
            return (stem, extension);
        }
        loop {
            let next = self.next.entry((stem.clone(), extension.clone())).or_insert(0);
            *next += 1;
            let number = format!("{mark}{next}");
            let kept = 8usize.saturating_sub(number.len());
            // All are ASCII.
            let numbered = format!("{}{number}", stem.get(..kept).unwrap_or(&stem));
            if self.take(&numbered, &extension) {
                return (numbered, extension);
            }
        }
    }
}
