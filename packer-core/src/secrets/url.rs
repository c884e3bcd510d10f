//! Secrets inside of URLs: the password before the host, and what a query calls a token.

use std::borrow::Cow;
use std::ops::Range;

use super::REDACTED;

/// Parts of a query's names that say that the value is a secret.
const TELLING: [&str; 10] =
    ["apikey", "api_key", "api-key", "auth", "credential", "passw", "pwd", "secret", "signature", "token"];

/// From how many characters on a user without a password is taken for a token.
const TOKEN: usize = 20;

/// Whether the name of a header, or of a value in a query, says that its value is a secret.
pub(crate) fn is_telling(name: &str) -> bool {
    let name = name.to_ascii_lowercase();
    TELLING.iter().any(|part| name.contains(part)) || matches!(name.as_str(), "sig" | "cookie" | "key")
}

/// The places of secrets in a text that is a URL as a whole: the password of its user, and what its query calls a token
/// and the like.
fn places(url: &str) -> Vec<Range<usize>> {
    let Some((scheme, _)) = url.split_once("://") else { return Vec::new() };
    let is_scheme = |c: char| c.is_ascii_alphanumeric() || "+-.:".contains(c);
    if scheme.is_empty() || !scheme.chars().all(is_scheme) || url.contains(char::is_whitespace) {
        return Vec::new();
    }
    let start = scheme.len() + "://".len();
    let end = url.find('#').unwrap_or(url.len()).max(start);
    let rest = &url[start..end];
    let authority = rest.find(['/', '?']).map_or(rest, |at| &rest[..at]);
    let mut found = Vec::new();
    if let Some(user) = authority.rfind('@') {
        match authority[..user].find(':') {
            Some(colon) => found.push(start + colon + 1..start + user),
            None if user >= TOKEN => found.push(start..start + user),
            None => {}
        }
    }
    let mut at = rest.find('?').map_or(end, |query| start + query + 1);
    while at < end {
        let pair = url[at..end].split('&').next().unwrap_or_default();
        if let Some((name, value)) = pair.split_once('=').filter(|(name, _)| is_telling(name)) {
            found.push(at + name.len() + 1..at + name.len() + 1 + value.len());
        }
        at += pair.len() + 1;
    }
    found.retain(|place| !place.is_empty());
    found
}

/// The secrets of a text that is a URL as a whole, as they are written and, where that differs, as they are meant.
pub(super) fn secrets_of(url: &str) -> Vec<String> {
    let written = places(url).into_iter().map(|place| url[place].to_owned());
    let mut found: Vec<String> = written.flat_map(|text| [decoded(&text), text]).collect();
    found.dedup();
    found
}

/// A URL as it may be shown: without what is secret in it by its form.
pub(super) fn without_secrets(url: &str) -> Cow<'_, str> {
    let mut shown = Cow::Borrowed(url);
    for place in places(url).into_iter().rev() {
        shown.to_mut().replace_range(place, REDACTED);
    }
    shown
}

/// A text with `%41` as `A`; what is no such escape stays.
fn decoded(text: &str) -> String {
    let mut bytes = Vec::with_capacity(text.len());
    let mut rest = text.as_bytes();
    while let Some((first, after)) = rest.split_first() {
        let code = after.get(..2).and_then(|hex| std::str::from_utf8(hex).ok());
        let code = code.filter(|hex| hex.bytes().all(|b| b.is_ascii_hexdigit()));
        match code.and_then(|hex| u8::from_str_radix(hex, 16).ok()) {
            Some(byte) if *first == b'%' => {
                bytes.push(byte);
                rest = &after[2..];
            }
            _ => {
                bytes.push(*first);
                rest = after;
            }
        }
    }
    String::from_utf8_lossy(&bytes).into_owned()
}

/// A text as it stands in a URL.
pub(super) fn encoded(text: &str) -> String {
    let mut url = String::with_capacity(text.len());
    for byte in text.bytes() {
        match byte {
            b'A'..=b'Z' | b'a'..=b'z' | b'0'..=b'9' | b'-' | b'.' | b'_' | b'~' => url.push(char::from(byte)),
            _ => url.push_str(&format!("%{byte:02X}")),
        }
    }
    url
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn passwords_tokens_and_telling_names() {
        for (url, shown, secrets) in [
            (
                "http://u:p%40ss@proxy:3128/",
                "http://u:<sensitive>@proxy:3128/",
                &["p@ss", "p%40ss"] as &[&str],
            ),
            (
                "https://h/a?x=1&access_token=geheim&y=2&sig=s#token=z",
                "https://h/a?x=1&access_token=<sensitive>&y=2&sig=<sensitive>#token=z",
                &["geheim", "s"],
            ),
            (
                "git::https://abcdefghijklmnopqrst@h/x",
                "git::https://<sensitive>@h/x",
                &["abcdefghijklmnopqrst"],
            ),
            ("ssh://git@h/x:y@z", "ssh://git@h/x:y@z", &[]),
            ("http://u:@h?token=&&", "http://u:@h?token=&&", &[]),
            ("see http://u:p@h", "see http://u:p@h", &[]),
            ("/a/b?token=c", "/a/b?token=c", &[]),
            ("x://#", "x://#", &[]),
        ] {
            assert_eq!(secrets_of(url), secrets, "{url}");
            assert_eq!(without_secrets(url), shown);
        }
        assert_eq!(encoded("a b/ü"), "a%20b%2F%C3%BC");
        assert_eq!(decoded("%4g%"), "%4g%");
    }
}
