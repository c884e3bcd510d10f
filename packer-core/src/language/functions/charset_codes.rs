//! Codes of several bytes as Packer writes them: for whatever can be read there is a code, where the encoders of the web
//! leave some out.

use std::collections::HashMap;
use std::sync::LazyLock;

use encoding_rs::{BIG5, EUC_JP, Encoding, GBK, SHIFT_JIS};

/// The code of each character.
type Codes = HashMap<char, Vec<u8>>;

static GBK_CODES: LazyLock<Codes> = LazyLock::new(|| codes(GBK, false));
static BIG5_CODES: LazyLock<Codes> = LazyLock::new(|| codes(BIG5, true));
static EUC_JP_CODES: LazyLock<Codes> = LazyLock::new(|| codes(EUC_JP, false));
static SHIFT_JIS_CODES: LazyLock<Codes> = LazyLock::new(|| codes(SHIFT_JIS, false));

/// The text in a set of this name: `None` where the set is none of these, `Some(None)` where it has no place for a
/// character.
pub(super) fn encode(name: &str, text: &str) -> Option<Option<Vec<u8>>> {
    let codes = match name {
        "GBK" => &GBK_CODES,
        "Big5" => &BIG5_CODES,
        "EUC-JP" => &EUC_JP_CODES,
        "Shift_JIS" => &SHIFT_JIS_CODES,
        "ISO-2022-JP" => return Some(encode_iso_2022_jp(text)),
        _ => return None,
    };
    let found: Option<Vec<&[u8]>> = text.chars().map(|c| codes.get(&c).map(Vec::as_slice)).collect();
    Some(found.map(|codes| codes.concat()))
}

/// Characters that only the newer tables of the web have where Packer's have nothing: those for private use, and what took
/// the place of some.
pub(super) fn is_left_out(c: char) -> bool {
    matches!(c, '\u{e000}'..='\u{f8ff}' | '\u{1e3f}' | '\u{9fb4}'..='\u{9fbb}' | '\u{fe10}'..='\u{fe19}')
}

/// The codes of all characters. Where there are several, the lowest, or the highest.
fn codes(encoding: &'static Encoding, highest: bool) -> Codes {
    let mut codes = Codes::new();
    let mut add = |code: &[u8]| {
        let Some(text) = encoding.decode_without_bom_handling_and_without_replacement(code) else { return };
        let mut characters = text.chars();
        // A byte that is read as the control character of its number is no code.
        if let (Some(c), None) = (characters.next(), characters.next())
            && !is_left_out(c)
            && !matches!(c, '\u{80}'..='\u{9f}')
            && (highest || !codes.contains_key(&c))
        {
            codes.insert(c, code.to_vec());
        }
    };
    (0..=0xff).for_each(|byte| add(&[byte]));
    let pairs = || (0x81..=0xfe).flat_map(|lead| (0x40..=0xfe).map(move |trail| [lead, trail]));
    pairs().for_each(|pair| add(&pair));
    if encoding == EUC_JP {
        pairs().for_each(|[lead, trail]| add(&[0x8f, lead, trail]));
    }
    codes
}

/// What is being written in ISO-2022-JP, by the letters that turn to it.
const ASCII: &[u8] = b"(B";
const KATAKANA: &[u8] = b"(I";
const JIS_X_0208: &[u8] = b"$B";

fn encode_iso_2022_jp(text: &str) -> Option<Vec<u8>> {
    let mut out = Vec::with_capacity(text.len());
    let mut state = ASCII;
    let mut turn = |to: &'static [u8], out: &mut Vec<u8>| {
        if std::mem::replace(&mut state, to) != to {
            out.push(0x1b);
            out.extend(to);
        }
    };
    for c in text.chars() {
        match EUC_JP_CODES.get(&c)?[..] {
            [byte] => {
                turn(ASCII, &mut out);
                out.push(byte);
            }
            [0x8e, byte] => {
                turn(KATAKANA, &mut out);
                out.push(byte & 0x7f);
            }
            [lead, trail] => {
                turn(JIS_X_0208, &mut out);
                out.extend([lead & 0x7f, trail & 0x7f]);
            }
            _ => return None,
        }
    }
    turn(ASCII, &mut out);
    Some(out)
}
