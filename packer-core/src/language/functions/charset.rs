//! Text in the character sets that `textencodebase64` and `textdecodebase64` know, under their IANA names.

use super::charset_codes::{self, is_left_out};
use super::charset_tables::{TABLES, Table};

/// A character set.
pub(super) enum Charset {
    Ascii,
    Latin1,
    Utf8,
    Utf16 {
        little: bool,
        mark: bool,
    },
    Table(&'static Table),
    /// Chinese in seven bits: characters of GB 2312 stand between `~{` and `~}`.
    Hz,
    /// One that takes several bytes for a character.
    Multi(&'static encoding_rs::Encoding, &'static str),
}

/// Names of the sets that have no table, each with its aliases.
const NAMED: &[(&str, &[&str])] = &[
    (
        "US-ASCII",
        &[
            "iso-ir-6",
            "ANSI_X3.4-1968",
            "ANSI_X3.4-1986",
            "ISO_646.irv:1991",
            "ISO646-US",
            "us",
            "IBM367",
            "cp367",
            "csASCII",
        ],
    ),
    (
        "ISO_8859-1:1987",
        &["iso-ir-100", "ISO_8859-1", "ISO-8859-1", "latin1", "l1", "IBM819", "CP819", "csISOLatin1"],
    ),
    ("UTF-8", &["csUTF8"]),
    ("UTF-16", &["csUTF16"]),
    ("UTF-16BE", &["csUTF16BE"]),
    ("UTF-16LE", &["csUTF16LE"]),
    ("GBK", &["CP936", "MS936", "windows-936", "csGBK"]),
    ("GB18030", &["csGB18030"]),
    ("HZ-GB-2312", &[]),
    ("Big5", &["csBig5"]),
    ("EUC-JP", &["Extended_UNIX_Code_Packed_Format_for_Japanese", "csEUCPkdFmtJapanese"]),
    ("Shift_JIS", &["MS_Kanji", "csShiftJIS"]),
    ("ISO-2022-JP", &["csISO2022JP"]),
    ("EUC-KR", &["csEUCKR"]),
];

impl Charset {
    /// The set of a name or alias, in any case.
    pub(super) fn find(name: &str) -> Option<Self> {
        let is = |own: &str, aliases: &[&str]| {
            own.eq_ignore_ascii_case(name) || aliases.iter().any(|a| a.eq_ignore_ascii_case(name))
        };
        if let Some(table) = TABLES.iter().find(|t| is(t.name, t.aliases)) {
            return Some(Self::Table(table));
        }
        let (name, _) = NAMED.iter().find(|(own, aliases)| is(own, aliases))?;
        Some(match *name {
            "US-ASCII" => Self::Ascii,
            "ISO_8859-1:1987" => Self::Latin1,
            "UTF-8" => Self::Utf8,
            "UTF-16" => Self::Utf16 { little: false, mark: true },
            "UTF-16BE" => Self::Utf16 { little: false, mark: false },
            "UTF-16LE" => Self::Utf16 { little: true, mark: false },
            "HZ-GB-2312" => Self::Hz,
            _ => Self::Multi(encoding_rs::Encoding::for_label(name.as_bytes())?, name),
        })
    }

    /// The name for messages.
    pub(super) fn name(&self) -> &'static str {
        match self {
            Self::Ascii => "US-ASCII",
            Self::Latin1 => "ISO_8859-1:1987",
            Self::Utf8 => "UTF-8",
            Self::Utf16 { mark: true, .. } => "UTF-16",
            Self::Utf16 { little: true, .. } => "UTF-16LE",
            Self::Utf16 { .. } => "UTF-16BE",
            Self::Table(table) => table.name,
            Self::Hz => "HZ-GB-2312",
            Self::Multi(_, name) => name,
        }
    }

    /// The text in this set; `None` where it has no place for a character.
    pub(super) fn encode(&self, text: &str) -> Option<Vec<u8>> {
        match self {
            Self::Ascii => text.is_ascii().then(|| text.as_bytes().to_vec()),
            Self::Latin1 => text.chars().map(|c| u8::try_from(c as u32).ok()).collect(),
            Self::Utf8 => Some(text.as_bytes().to_vec()),
            Self::Utf16 { little, mark } => {
                let units = mark.then_some(0xfeff).into_iter().chain(text.encode_utf16());
                let bytes = |u: u16| if *little { u.to_le_bytes() } else { u.to_be_bytes() };
                Some(units.flat_map(bytes).collect())
            }
            Self::Table(table) => {
                let decoded = table.decoded();
                text.chars()
                    .map(|c| match c {
                        char::REPLACEMENT_CHARACTER => None,
                        c => decoded.iter().position(|d| *d == c).and_then(|i| u8::try_from(i).ok()),
                    })
                    .collect()
            }
            Self::Hz => encode_hz(text),
            Self::Multi(encoding, name) => match charset_codes::encode(name, text) {
                Some(encoded) => encoded,
                None => {
                    let (bytes, _, failed) = encoding.encode(text);
                    (!failed).then(|| bytes.into_owned())
                }
            },
        }
    }

    /// The text of bytes in this set; `None` where they mean nothing.
    pub(super) fn decode(&self, bytes: &[u8]) -> Option<String> {
        match self {
            Self::Ascii => bytes.is_ascii().then(|| bytes.iter().map(|b| char::from(*b)).collect()),
            Self::Latin1 => Some(bytes.iter().map(|b| char::from(*b)).collect()),
            Self::Utf8 => str::from_utf8(bytes).ok().map(str::to_owned),
            Self::Utf16 { little, mark } => decode_utf16(bytes, *little, *mark),
            Self::Table(table) => {
                let decoded = table.decoded();
                bytes
                    .iter()
                    .map(|b| {
                        decoded.get(usize::from(*b)).copied().filter(|c| *c != char::REPLACEMENT_CHARACTER)
                    })
                    .collect()
            }
            Self::Hz => decode_hz(bytes),
            Self::Multi(encoding, name) => {
                let text = encoding.decode_without_bom_handling_and_without_replacement(bytes)?;
                // GB 18030 has a code for every character.
                (*name == "GB18030" || !text.contains(is_left_out)).then(|| text.into_owned())
            }
        }
    }
}

impl Table {
    /// The characters of all 256 bytes.
    fn decoded(&self) -> Vec<char> {
        let upper: Vec<char> = self.chars.chars().collect();
        let ascii = (0..=127u8).map(char::from).take(256 - upper.len());
        ascii.chain(upper.iter().copied()).collect()
    }
}

/// What is above a byte of GB 2312 within eight bits.
const HIGH: u8 = 0x80;

fn encode_hz(text: &str) -> Option<Vec<u8>> {
    let mut out = Vec::with_capacity(text.len());
    let mut chinese = false;
    for c in text.chars() {
        match u8::try_from(c) {
            // It stands in either state, as Packer's encoder has it.
            Ok(b'~') => out.extend(b"~~"),
            Ok(b) if b.is_ascii() => {
                if std::mem::take(&mut chinese) {
                    out.extend(b"~}");
                }
                out.push(b);
            }
            _ => {
                let mut utf8 = [0; 4];
                let (bytes, _, failed) = encoding_rs::GB18030.encode(c.encode_utf8(&mut utf8));
                let [a @ 0xa1..=0xfd, b @ 0xa1..=0xfe] = *bytes else { return None };
                if failed || is_left_out(c) {
                    return None;
                }
                if !std::mem::replace(&mut chinese, true) {
                    out.extend(b"~{");
                }
                out.extend([a - HIGH, b - HIGH]);
            }
        }
    }
    Some(out)
}

fn decode_hz(bytes: &[u8]) -> Option<String> {
    let mut out = String::with_capacity(bytes.len());
    let mut chinese = false;
    let mut rest = bytes;
    loop {
        rest = match rest {
            [] => return Some(out),
            [b'~', b'{', rest @ ..] => {
                chinese = true;
                rest
            }
            [b'~', b'}', rest @ ..] => {
                chinese = false;
                rest
            }
            [b'~', b'\n', rest @ ..] => rest,
            [b'~', b'~', rest @ ..] => {
                out.push('~');
                rest
            }
            [b'~', ..] => return None,
            [a @ 0x21..=0x7d, b @ 0x21..=0x7e, rest @ ..] if chinese => {
                let pair = [a + HIGH, b + HIGH];
                out.push_str(&encoding_rs::GBK.decode_without_bom_handling_and_without_replacement(&pair)?);
                rest
            }
            [b @ 0..=0x7f, rest @ ..] if !chinese => {
                out.push(char::from(*b));
                rest
            }
            _ => return None,
        };
    }
}

fn decode_utf16(bytes: &[u8], little: bool, mark: bool) -> Option<String> {
    if !bytes.len().is_multiple_of(2) {
        return None;
    }
    let (little, bytes) = match bytes {
        [0xff, 0xfe, rest @ ..] if mark => (true, rest),
        [0xfe, 0xff, rest @ ..] if mark => (false, rest),
        _ => (little, bytes),
    };
    let units = bytes.chunks_exact(2).map(|pair| match pair {
        [a, b] if little => u16::from_le_bytes([*a, *b]),
        [a, b] => u16::from_be_bytes([*a, *b]),
        _ => 0,
    });
    char::decode_utf16(units).collect::<Result<_, _>>().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_table_is_whole_and_every_name_is_known() {
        for table in TABLES {
            assert_eq!(table.decoded().len(), 256, "{}", table.name);
            let set = Charset::find(&table.name.to_lowercase()).unwrap();
            let text: String =
                table.decoded().into_iter().filter(|c| *c != char::REPLACEMENT_CHARACTER).collect();
            let bytes = set.encode(&text).unwrap();
            assert_eq!(set.decode(&bytes).as_ref(), Some(&text), "{}", table.name);
        }
        for (name, _) in NAMED {
            let set = Charset::find(name).unwrap();
            assert_eq!(set.decode(&set.encode("a").unwrap()).as_deref(), Some("a"), "{name}");
        }
    }

    #[test]
    fn encodes_and_refuses() {
        for (name, text, bytes) in [
            ("latin1", "é", Some(&[0xe9][..])),
            ("windows-1252", "€", Some(&[0x80])),
            ("IBM437", "é", Some(&[0x82])),
            ("GBK", "中文", Some(&[0xd6, 0xd0, 0xce, 0xc4])),
            ("utf-16le", "😀", Some(&[0x3d, 0xd8, 0, 0xde])),
            ("hz-gb-2312", "a~中文b", Some(b"a~~~{VPND~}b")),
            ("HZ-GB-2312", "中~", Some(b"~{VP~~")),
            ("HZ-GB-2312", "é€", Some(b"~{(&\"c")),
            ("HZ-GB-2312", "Ā", None),
            ("HZ-GB-2312", "\u{1e3f}", None),
            // What the web reads and does not write.
            ("EUC-JP", "aé本", Some(&[b'a', 0x8f, 0xab, 0xb1, 0xcb, 0xdc])),
            ("EUC-JP", "ｱ纊", Some(&[0x8e, 0xb1, 0xf9, 0xa1])),
            ("EUC-JP", "¥", None),
            ("Big5", "éĀ中", Some(&[0x88, 0x6d, 0x88, 0x56, 0xa4, 0xa4])),
            ("Big5", "箸隶", Some(&[0xba, 0xe6, 0xc6, 0xd7])),
            // Of several codes the lowest.
            ("Shift_JIS", "ⅰ丨∪ｱ", Some(&[0xee, 0xef, 0xed, 0x4c, 0x81, 0xbe, 0xb1])),
            ("Shift_JIS", "\u{80}", None),
            ("Shift_JIS", "\u{e000}", None),
            ("GBK", "€\u{3000}", Some(&[0x80, 0xa1, 0xa1])),
            ("GBK", "\u{e000}", None),
            ("GBK", "\u{9fb4}", None),
            ("ISO-2022-JP", "aｱ本b", Some(b"a\x1b(I1\x1b$BK\\\x1b(Bb")),
            ("ISO-2022-JP", "本", Some(b"\x1b$BK\\\x1b(B")),
            ("ISO-2022-JP", "é", None),
            ("IBM1047", "[]", Some(&[0xad, 0xbd])),
            ("iso-8859-8-i", "א", Some(&[0xe0])),
            ("UTF-16", "", Some(&[0xfe, 0xff])),
            ("IBM037", "A", Some(&[0xc1])),
            ("ISO-8859-1", "日", None),
            ("US-ASCII", "é", None),
        ] {
            assert_eq!(Charset::find(name).unwrap().encode(text).as_deref(), bytes, "{name}");
        }
        assert!(Charset::find("utf-9").is_none());
        assert_eq!(Charset::find("windows-1252").unwrap().decode(&[0x81]), None);
        let hz = Charset::find("HZ-GB-2312").unwrap();
        assert_eq!(hz.decode(b"a~~~{VPND~}~\nb").as_deref(), Some("a~中文b"));
        for bytes in [&b"~x"[..], b"~", b"~{V", b"~{\nV", b"\xd6\xd0"] {
            assert_eq!(hz.decode(bytes), None, "{bytes:?}");
        }
        assert_eq!(Charset::find("UTF-8").unwrap().decode(&[0xff]), None);
        assert_eq!(Charset::find("GBK").unwrap().decode(&[0xa1, 0x40]), None);
        assert_eq!(Charset::find("Big5").unwrap().decode(&[0x88, 0x6d]).as_deref(), Some("é"));
        assert_eq!(Charset::find("EUC-JP").unwrap().decode(&[0x8f, 0xab, 0xb1]).as_deref(), Some("é"));
        assert_eq!(Charset::find("UTF-16LE").unwrap().decode(&[0x48]), None);
        assert_eq!(Charset::find("UTF-16").unwrap().decode(&[0xff, 0xfe, 0x48, 0]).as_deref(), Some("H"));
    }
}
