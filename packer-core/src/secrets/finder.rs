//! Finding secrets in texts, and where a text can be cut without a part of one being shown.

use std::collections::BTreeSet;
use std::ops::Range;
use std::sync::OnceLock;

use aho_corasick::{AhoCorasick, AhoCorasickKind, MatchKind};

/// From how many characters on a text can be told from words that have nothing to do with it.
const LONG: usize = 8;

/// The same for a text of digits alone.
const LONG_NUMBER: usize = 6;

/// How many characters a short text needs to be replaced in prose where it stands alone; one with fewer is a word of its
/// own too often (`a`, `on`, `1`).
const STANDS_ALONE: usize = 4;

/// How many bytes of texts are looked for in the fastest way.
const FAST: usize = 32 * 1024;

/// Which places of a short secret count.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Places {
    /// Each.
    All,
    /// Those that are no part of a word.
    Alone,
}

/// Whether a text can be told apart wherever it stands.
pub(super) fn is_long(text: &str) -> bool {
    let digits = text.bytes().all(|b| b.is_ascii_digit());
    text.chars().take(LONG).count() >= if digits { LONG_NUMBER } else { LONG }
}

/// Whether a text is no more than a word that stands everywhere.
pub(super) fn is_everywhere(text: &str) -> bool {
    text.chars().take(STANDS_ALONE).count() < STANDS_ALONE || matches!(text, "true" | "false" | "null")
}

/// Finds a set of texts.
pub(super) struct Finder {
    /// Says fast whether there is one at all: in most lines there is none.
    quick: AhoCorasick,
    /// Finds each of them, also those that overlap; made when there is one for the first time.
    all: OnceLock<Option<AhoCorasick>>,
    texts: Vec<String>,
    kinds: Vec<Length>,
    longest: usize,
}

/// How long a text is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Length {
    Long,
    Short,
    Tiny,
}

impl Finder {
    /// `None` for more than an automaton can hold: about 2^31 bytes.
    pub(super) fn new(texts: &BTreeSet<String>) -> Option<Self> {
        let texts: Vec<String> = texts.iter().cloned().collect();
        let quick = automaton(MatchKind::LeftmostLongest, &texts)?;
        let kind = |text: &String| match () {
            () if is_long(text) => Length::Long,
            () if is_everywhere(text) => Length::Tiny,
            () => Length::Short,
        };
        let longest = texts.iter().map(String::len).max().unwrap_or(0);
        let kinds = texts.iter().map(kind).collect();
        Some(Self { quick, all: OnceLock::new(), texts, kinds, longest })
    }

    /// The length of the longest text, in bytes.
    pub(super) fn longest(&self) -> usize {
        self.longest
    }

    /// Where the texts are, in order. Those that overlap are one place, so that nothing of either is left.
    pub(super) fn places(&self, text: &str, which: Places) -> Vec<Range<usize>> {
        self.merged(text.as_bytes(), |kind, place| {
            which == Places::All || kind == Length::Long || stands_alone(text, place, kind)
        })
    }

    /// The same for bytes, where every place counts.
    pub(super) fn places_in_bytes(&self, bytes: &[u8]) -> Vec<Range<usize>> {
        self.merged(bytes, |_, _| true)
    }

    /// Whether a text holds one of the texts that is more than a word that stands everywhere.
    pub(super) fn tells(&self, text: &str) -> bool {
        !self.merged(text.as_bytes(), |kind, _| kind != Length::Tiny).is_empty()
    }

    fn merged(&self, bytes: &[u8], counts: impl Fn(Length, &Range<usize>) -> bool) -> Vec<Range<usize>> {
        let mut places: Vec<Range<usize>> = Vec::new();
        if !self.quick.is_match(bytes) {
            return places;
        }
        let all = || automaton(MatchKind::Standard, &self.texts);
        let Some(all) = self.all.get_or_init(all) else { return std::iter::once(0..bytes.len()).collect() };
        // In the order of their ends.
        for found in all.find_overlapping_iter(bytes) {
            let kind = self.kinds.get(found.pattern().as_usize()).copied().unwrap_or(Length::Long);
            let mut place = found.range();
            if !counts(kind, &place) {
                continue;
            }
            while let Some(last) = places.last().filter(|last| last.end > place.start) {
                place.start = place.start.min(last.start);
                places.pop();
            }
            places.push(place);
        }
        places
    }
}

/// An automaton that finds texts. The one that searches fastest takes minutes to make, and hundreds of megabytes, where the
/// texts are long.
fn automaton(kind: MatchKind, texts: &[String]) -> Option<AhoCorasick> {
    let is_long = texts.iter().map(String::len).sum::<usize>() > FAST;
    let structure = is_long.then_some(AhoCorasickKind::ContiguousNFA);
    AhoCorasick::builder().match_kind(kind).kind(structure).build(texts).ok()
}

/// Whether a short secret is no part of a word: neither a letter nor a digit is beside it. A tiny one has to be all of the
/// text, or in quotes.
fn stands_alone(text: &str, place: &Range<usize>, kind: Length) -> bool {
    let (before, after) = (&text[..place.start], &text[place.end..]);
    let (left, right) = (before.chars().next_back(), after.chars().next());
    let is_word = |c: char| c.is_alphanumeric() || c == '_';
    let quoted = left.is_some_and(|c| matches!(c, '"' | '\'' | '`') && right == Some(c));
    let whole = left.is_none() && right.is_none();
    whole || quoted || (kind != Length::Tiny && !left.is_some_and(is_word) && !right.is_some_and(is_word))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn finder(texts: &[&str]) -> Finder {
        Finder::new(&texts.iter().map(|t| (*t).to_owned()).collect()).unwrap()
    }

    #[test]
    fn what_overlaps_is_one_place_and_what_touches_is_two() {
        let finder = finder(&["abc", "bcdefghij", "jklm"]);
        assert_eq!(finder.places("xabcdefghijklmx abcabc", Places::All), [1..14, 16..19, 19..22]);
        assert_eq!(finder.longest(), 9);
    }

    #[test]
    fn short_ones_count_in_prose_only_where_they_stand_alone() {
        let finder = finder(&["anan", "a", "true", "12345", "long enough", "123456"]);
        let found = |text| finder.places(text, Places::Alone).len();
        for (text, places) in [
            ("a banana", 0),
            ("an anan", 1),
            ("anan_x xanan", 0),
            ("-anan-", 1),
            ("it is true that \"true\" and 'a' and `a'", 2),
            ("a", 1),
            ("12345 x12345", 1),
            ("xlong enoughx", 1),
            ("x1234567", 1),
        ] {
            assert_eq!(found(text), places, "{text}");
        }
    }
}
