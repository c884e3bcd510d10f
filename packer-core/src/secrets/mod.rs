//! Secrets: texts that must not leave the process in clear, and the scrubbing of everything that does.

mod finder;
mod lines;
mod secret;
mod url;

use std::borrow::Cow;
use std::collections::BTreeSet;
use std::fmt;
use std::ops::Range;
use std::sync::atomic::{AtomicU8, Ordering};
use std::sync::{Arc, PoisonError, RwLock};

use finder::{Finder, Places};
pub use lines::{first_lines, last_lines};
pub use secret::Secret;
pub(crate) use secret::{REVEALED, reveal};
pub(crate) use url::is_telling;

use crate::value::{Data, Value};

/// What a secret becomes in any output.
pub const REDACTED: &str = "<sensitive>";

/// The longest secret that is also looked for in other spellings.
const SPELT: usize = 4096;

/// What placeholders of values hold that exist only later.
const PLACEHOLDER: &str = "<unknown>";

/// The secrets of a run. Cheap to clone; every clone knows what any of them learned.
///
/// Registering a text registers each of its lines too, because output is scrubbed line by line. Where secrets overlap,
/// nothing of either is left.
///
/// ```
/// let secrets = packer_core::Secrets::new();
/// secrets.add("hunter2");
/// assert_eq!(secrets.scrub("password is hunter2"), "password is <sensitive>");
/// ```
///
/// A text of eight characters and more, or of six digits and more, is told apart wherever it stands. A shorter one is
/// replaced anywhere in values and in what commands print ([`scrub`](Self::scrub)); in sentences of this library and in names
/// ([`scrub_prose`](Self::scrub_prose)) only where it is no part of a word.
#[derive(Clone, Default)]
pub struct Secrets(Arc<Inner>);

#[derive(Default)]
struct Inner {
    known: RwLock<Known>,
    /// Which short secrets there are: one of [`NONE`], [`SHORT`], [`TINY`].
    short: AtomicU8,
}

const NONE: u8 = 0;
/// A field of a component holds one.
const SHORT: u8 = 1;
/// Somebody said of a word that stands everywhere that it is a secret.
const TINY: u8 = 2;

#[derive(Default)]
struct Known {
    texts: BTreeSet<String>,
    /// Those of them that came since `search` was made.
    fresh: Vec<String>,
    search: Search,
}

/// How many new texts are looked for one by one at least, before it is worth while to make another finder.
const MOST_FRESH: usize = 64;

/// How texts are looked for.
#[derive(Clone, Default)]
enum Search {
    /// There are none.
    #[default]
    Nothing,
    Ready(Arc<Finder>),
    /// There are more than can be looked for: everything is scrubbed whole.
    TooMany,
}

impl Secrets {
    /// No secrets yet.
    pub fn new() -> Self {
        Self::default()
    }

    /// Registers a text; an empty one, or one of spaces, is ignored.
    ///
    /// Of a text of several lines each line of three characters or more is a secret by itself: a line such
    /// as `}` would scrub every brace of the output. A long one is also found as it stands in a URL or in JSON.
    pub fn add(&self, text: &str) {
        if self.insert(text) && finder::is_everywhere(text) {
            self.0.short.fetch_max(TINY, Ordering::Relaxed);
        }
    }

    /// Registers what of a configuration is a secret: texts (and numbers of six digits or more) that are marked sensitive
    /// as far as they can be told apart, and what URLs hold of passwords and tokens.
    pub(crate) fn add_marked(&self, value: &Value) {
        each_leaf(value, &mut |leaf, marked| match leaf.data() {
            Data::String(text) if text.contains(PLACEHOLDER) => {}
            Data::String(text) if marked => self.add_derived(text),
            Data::String(text) => self.add_url(text),
            Data::Number(number) if marked => self.add_number(&number.to_string()),
            _ => {}
        });
    }

    /// Registers the marked texts of what a component declares secret. One that stands everywhere (`x`) is hidden where the
    /// value is shown and not looked for: nothing could be read any more.
    pub(crate) fn add_declared(&self, value: &Value) {
        each_leaf(value, &mut |leaf, marked| match leaf.data() {
            Data::String(text) if !marked || text.contains(PLACEHOLDER) => {}
            Data::String(text) if text.trim().is_empty() => {}
            Data::String(text) if finder::is_everywhere(text.trim()) => {
                self.0.short.fetch_max(SHORT, Ordering::Relaxed);
            }
            Data::String(text) => drop(self.insert(text)),
            Data::Number(number) if marked => self.add_number(&number.to_string()),
            _ => {}
        });
    }

    /// Registers the texts and longer numbers of what somebody said is sensitive, however short the texts are: the value
    /// of a variable. What of it is not marked is left out.
    pub(crate) fn add_sensitive(&self, value: &Value) {
        each_leaf(value, &mut |leaf, marked| match leaf.data() {
            Data::String(text) if marked => self.add(text),
            Data::Number(number) if marked => self.add_number(&number.to_string()),
            _ => {}
        });
    }

    /// Registers the password and the tokens of a text that is a URL. One that stands everywhere is left out: see
    /// [`url_without_secrets`].
    pub fn add_url(&self, text: &str) {
        for secret in url::secrets_of(text).iter().filter(|secret| !finder::is_everywhere(secret)) {
            self.insert(secret);
        }
    }

    /// Registers a value whose name says that it is a secret (`Authorization`, `api_token`): a header, say. Of several words
    /// the last is one by itself.
    pub fn add_named(&self, name: &str, value: &str) {
        if is_telling(name) {
            self.insert(value);
            self.insert(value.rsplit(' ').next().unwrap_or_default());
        }
    }

    /// A text that was made of a secret. Where a secret stands in it as it is, that is what is looked for: the rest may be
    /// shown.
    fn add_derived(&self, text: &str) {
        let many_fresh = |known: &Known| known.fresh.len() > MOST_FRESH.max(known.texts.len() / 4);
        if many_fresh(&self.read()) {
            self.search();
        }
        let known = self.read();
        let tells = |fresh: &String| !finder::is_everywhere(fresh) && text.contains(fresh);
        if !finder::is_long(text.trim())
            || known.texts.contains(text)
            || matches!(&known.search, Search::Ready(finder) if finder.tells(text))
            || known.fresh.iter().any(tells)
        {
            return;
        }
        drop(known);
        self.insert(text);
    }

    fn add_number(&self, text: &str) {
        if text.bytes().filter(u8::is_ascii_digit).count() >= 6 {
            self.insert(text);
        }
    }

    /// Whether there was anything to register.
    fn insert(&self, text: &str) -> bool {
        let whole = text.trim_end_matches(['\r', '\n']);
        if whole.trim().is_empty() {
            return false;
        }
        if self.read().texts.contains(whole) {
            return true;
        }
        let mut known = self.0.known.write().unwrap_or_else(PoisonError::into_inner);
        for spelling in spellings(whole) {
            if known.texts.insert(spelling.clone()) {
                known.fresh.push(spelling);
            }
        }
        if !finder::is_long(whole) {
            self.0.short.fetch_max(SHORT, Ordering::Relaxed);
        }
        true
    }

    fn read(&self) -> std::sync::RwLockReadGuard<'_, Known> {
        self.0.known.read().unwrap_or_else(PoisonError::into_inner)
    }

    fn search(&self) -> Search {
        let known = self.read();
        if known.fresh.is_empty() {
            return known.search.clone();
        }
        drop(known);
        let mut known = self.0.known.write().unwrap_or_else(PoisonError::into_inner);
        if !std::mem::take(&mut known.fresh).is_empty() {
            let finder = Finder::new(&known.texts);
            known.search = finder.map_or(Search::TooMany, |finder| Search::Ready(Arc::new(finder)));
        }
        known.search.clone()
    }

    /// The places of secrets in a text, in order; `None` where there is none.
    fn places(&self, text: &str, which: Places) -> Option<Vec<Range<usize>>> {
        let places = match self.search() {
            Search::Ready(finder) => finder.places(text, which),
            Search::TooMany => std::iter::once(0..text.len()).collect(),
            Search::Nothing => return None,
        };
        (!places.is_empty()).then_some(places)
    }

    /// The text with every secret in it replaced by [`REDACTED`]: for values, and for what commands print.
    pub fn scrub<'a>(&self, text: impl Into<Cow<'a, str>>) -> Cow<'a, str> {
        self.replaced(text.into(), Places::All)
    }

    /// The same for a sentence of this library with values in it, and for a name: a short secret is replaced where it stands
    /// alone, and stays where it is a part of a word.
    pub fn scrub_prose<'a>(&self, text: impl Into<Cow<'a, str>>) -> Cow<'a, str> {
        self.replaced(text.into(), Places::Alone)
    }

    fn replaced<'a>(&self, text: Cow<'a, str>, which: Places) -> Cow<'a, str> {
        let Some(places) = self.places(&text, which) else { return text };
        let mut scrubbed = String::with_capacity(text.len());
        let mut done = 0;
        for place in places {
            scrubbed.push_str(&text[done..place.start]);
            scrubbed.push_str(REDACTED);
            done = place.end;
        }
        scrubbed.push_str(&text[done..]);
        Cow::Owned(scrubbed)
    }

    /// The text with every byte of a secret in it replaced by `*`, so that places in it stay; `None` where there is
    /// no secret in it. It is the text of a template: short secrets count as in [`scrub_prose`](Self::scrub_prose).
    pub(crate) fn mask(&self, text: &str) -> Option<String> {
        let places = self.places(text, Places::Alone)?;
        let mut masked = String::with_capacity(text.len());
        let mut done = 0;
        for place in places {
            masked.push_str(&text[done..place.start]);
            // Line ends stay, or the lines would be others.
            masked.extend(text[place.clone()].bytes().map(|b| if b == b'\n' { '\n' } else { '*' }));
            done = place.end;
        }
        masked.push_str(&text[done..]);
        Some(masked)
    }

    /// The text taken apart at the secrets in it.
    #[cfg(feature = "hcl")]
    pub(crate) fn pieces<'t>(&self, text: &'t str) -> Vec<Piece<'t>> {
        let (mut pieces, mut done) = (Vec::new(), 0);
        for place in self.places(text, Places::Alone).unwrap_or_default() {
            if place.start > done {
                pieces.push(Piece::Plain(&text[done..place.start]));
            }
            pieces.push(Piece::Secret(&text[place.clone()]));
            done = place.end;
        }
        if done < text.len() {
            pieces.push(Piece::Plain(&text[done..]));
        }
        pieces
    }

    /// The places of secrets in bytes, in order, and the length of the longest secret: for whoever shows a line before its
    /// end is known.
    pub(crate) fn places_in_bytes(&self, bytes: &[u8]) -> Vec<Range<usize>> {
        match self.search() {
            Search::Ready(finder) => finder.places_in_bytes(bytes),
            Search::TooMany => std::iter::once(0..bytes.len()).collect(),
            Search::Nothing => Vec::new(),
        }
    }

    /// The length of the longest secret, in bytes.
    pub(crate) fn longest(&self) -> usize {
        match self.search() {
            Search::Ready(finder) => finder.longest(),
            _ => 0,
        }
    }

    /// Whether any secret is known.
    pub fn is_empty(&self) -> bool {
        self.read().texts.is_empty()
    }

    /// Whether a secret is too short to be replaced inside of words.
    pub(crate) fn has_short(&self) -> bool {
        self.0.short.load(Ordering::Relaxed) != NONE
    }

    /// Whether somebody said of a word that stands everywhere (`a`, `true`) that it is a secret.
    pub(crate) fn has_tiny(&self) -> bool {
        self.0.short.load(Ordering::Relaxed) == TINY
    }
}

/// Gives each value that holds no others, and whether it is marked or inside of one that is.
fn each_leaf(value: &Value, give: &mut dyn FnMut(&Value, bool)) {
    if value.len().is_none() {
        return give(value, value.is_sensitive());
    }
    let mut pending = vec![(value, false)];
    while let Some((value, marked)) = pending.pop() {
        let marked = marked || value.is_sensitive();
        match value.len() {
            Some(_) => pending.extend(value.children().map(|inner| (inner, marked))),
            None => give(value, marked),
        }
    }
}

/// Changes each text in a document; its keys stay.
pub(crate) fn scrub_json(value: &mut serde_json::Value, clean: &impl Fn(&mut String)) {
    match value {
        serde_json::Value::String(text) => clean(text),
        serde_json::Value::Array(items) => items.iter_mut().for_each(|v| scrub_json(v, clean)),
        serde_json::Value::Object(map) => map.values_mut().for_each(|v| scrub_json(v, clean)),
        _ => {}
    }
}

/// A URL as it may be shown: what is secret by its form (the password before the host, what the query calls a token and
/// the like) is [`REDACTED`], also where it is not registered.
///
/// ```
/// let shown = packer_core::secrets::url_without_secrets("https://me:pw@host/x?api_key=k&a=b");
/// assert_eq!(shown, "https://me:<sensitive>@host/x?api_key=<sensitive>&a=b");
/// ```
pub fn url_without_secrets(url: &str) -> Cow<'_, str> {
    url::without_secrets(url)
}

/// The text and how else it may be printed: each of its lines, without spaces around it, in a URL, in JSON.
fn spellings(whole: &str) -> BTreeSet<String> {
    let mut spellings = BTreeSet::from([whole.to_owned(), whole.trim().to_owned()]);
    if whole.contains(['\r', '\n']) {
        spellings.insert(whole.replace("\r\n", "\n"));
        let lines = whole.split(['\r', '\n']).flat_map(|line| [line, line.trim()]);
        spellings.extend(lines.filter(|line| line.trim().chars().count() > 2).map(str::to_owned));
    }
    let text = whole.trim();
    if finder::is_long(text) && text.len() <= SPELT {
        spellings.insert(url::encoded(text));
        let json = serde_json::Value::from(text).to_string();
        spellings.extend(json.get(1..json.len() - 1).map(str::to_owned));
    }
    spellings
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
        write!(f, "Secrets({})", self.read().texts.len())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn scrubs_the_longest_match_and_each_line() {
        let secrets = Secrets::new();
        for nothing in ["", " ", "\n"] {
            secrets.add(nothing);
        }
        assert!(secrets.is_empty());
        secrets.add("abc");
        secrets.add("abcdef");
        secrets.add("-----BEGIN-----\r\nline two\n}\n");
        assert_eq!(secrets.scrub("xabcdefx abc"), "x<sensitive>x <sensitive>");
        assert_eq!(secrets.scrub("only line two here }"), "only <sensitive> here }");
        assert_eq!(secrets.mask("é abcdef\n").as_deref(), Some("é ******\n"));
        assert_eq!(secrets.mask("ab"), None);
        assert!(format!("{secrets:?}").starts_with("Secrets("));
        assert!(matches!(secrets.scrub("nothing"), Cow::Borrowed(_)));
    }

    #[test]
    fn what_overlaps_leaves_no_fragment() {
        let secrets = Secrets::new();
        secrets.add("abc");
        secrets.add("bcdefghij");
        assert_eq!(secrets.scrub("xabcdefghijx"), "x<sensitive>x");
        assert_eq!(secrets.scrub_prose("xabcdefghijx abcx"), "xa<sensitive>x abcx");
    }

    #[test]
    fn of_thousands_made_of_a_secret_each_is_known_and_what_holds_another_is_shown_beside_it() {
        let secrets = Secrets::new();
        secrets.add("first-secret");
        // A finder for each of them would take half an hour.
        for i in 0..10_000 {
            let derived = |text: String| secrets.add_marked(&Value::from(text.as_str()).sensitive());
            derived(format!("{:064x}", i + 0x0123_4567_89ab_cdef_u64));
            derived(format!("key {:064x}", i + 0x0123_4567_89ab_cdef_u64));
            derived(format!("user:first-secret {i}"));
        }
        let texts = secrets.read().texts.len();
        assert_eq!(texts, 10_001, "what holds another is none by itself");
        let last = format!("{:064x}", 9_999 + 0x0123_4567_89ab_cdef_u64);
        assert_eq!(secrets.scrub(format!("key {last}!")), "key <sensitive>!");
        assert_eq!(secrets.scrub("user:first-secret 1"), "user:<sensitive> 1");
    }

    #[test]
    fn other_spellings_of_long_ones_are_found() {
        let secrets = Secrets::new();
        secrets.add(" p\"ss word/long ");
        for text in [" p\"ss word/long ", "p\"ss word/long", "p\\\"ss word/long", "p%22ss%20word%2Flong"] {
            assert_eq!(secrets.scrub(text), "<sensitive>", "{text}");
        }
    }

    #[test]
    fn short_ones_stay_in_words_and_go_from_values() {
        let secrets = Secrets::new();
        secrets.add("hunter");
        assert!(secrets.has_short() && !secrets.has_tiny());
        assert_eq!(secrets.scrub("hunters"), "<sensitive>s");
        assert_eq!(secrets.scrub_prose("hunters say hunter"), "hunters say <sensitive>");
        secrets.add("a");
        assert!(secrets.has_tiny());
        assert_eq!(secrets.scrub_prose("a cat"), "a cat");
        assert_eq!(secrets.scrub("a cat"), "<sensitive> c<sensitive>t");
    }

    #[test]
    fn what_a_component_declares_is_looked_for_unless_it_stands_everywhere() {
        let secrets = Secrets::new();
        secrets.add_declared(&Value::tuple([Value::from("x").sensitive(), Value::from("plain")]));
        assert!(secrets.is_empty() && secrets.has_short() && !secrets.has_tiny());
        secrets.add_declared(&Value::object([("a", Value::from("kurz"))]).sensitive());
        assert_eq!(secrets.scrub("x kurz plain"), "x <sensitive> plain");
    }

    #[test]
    fn what_was_made_of_a_secret_is_one_where_it_can_be_told_apart() {
        let secrets = Secrets::new();
        secrets.add("hidden");
        let marked = |text: &str| Value::from(text).sensitive();
        let number = Value::from(918_273_645).sensitive();
        secrets.add_marked(&Value::tuple([marked("HIDDEN"), marked("aGlkZGVuaGlkZGVu"), number]));
        secrets.add_marked(&Value::object([("target", marked("out/hidden.txt")), ("n", marked("54321"))]));
        secrets.add_marked(&Value::tuple([Value::from("plain text"), Value::from(12_345).sensitive()]));
        let text = "HIDDEN aGlkZGVuaGlkZGVu 918273645 out/hidden.txt 54321 12345 plain text";
        let shown = "HIDDEN <sensitive> <sensitive> out/<sensitive>.txt 54321 12345 plain text";
        assert_eq!(secrets.scrub(text), shown);
    }
}
