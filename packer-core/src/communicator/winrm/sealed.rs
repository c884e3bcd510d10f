//! Documents sealed into parts of a `multipart/encrypted` body, as MS-WSMV describes it.

use super::failure::{Class, Failure};
use super::ntlm::Sealing;

/// What the body is.
pub(super) const KIND: &str = "multipart/encrypted;protocol=\"application/HTTP-SPNEGO-session-encrypted\";boundary=\"Encrypted Boundary\"";

/// What stands before the bytes.
const BEFORE: &[u8] = b"Content-Type: application/octet-stream\r\n";
const END: &[u8] = b"--Encrypted Boundary--";

/// Seals a document.
pub(super) fn seal(sealing: &mut Sealing, xml: &str) -> Vec<u8> {
    let mut content = xml.as_bytes().to_vec();
    let signature = sealing.seal(&mut content);
    // Servers look for the tabs.
    let mut body = format!(
        "--Encrypted Boundary\r\n\tContent-Type: application/HTTP-SPNEGO-session-encrypted\r\n\
         \tOriginalContent: type=application/soap+xml;charset=UTF-8;Length={}\r\n\
         --Encrypted Boundary\r\n\t",
        content.len()
    )
    .into_bytes();
    body.extend(BEFORE);
    body.extend([16, 0, 0, 0]);
    body.extend(signature);
    body.extend(content);
    body.extend(END);
    body.extend(b"\r\n");
    body
}

/// Opens what [`seal`] of the other side made.
pub(super) fn open(sealing: &mut Sealing, mut body: Vec<u8>) -> Result<Vec<u8>, Failure> {
    let wrong = || {
        Failure::new(
            Class::Http,
            "what came is not sealed as it should be: somebody is in the way, or the server is broken",
        )
    };
    let start = find(&body, BEFORE).ok_or_else(wrong)? + BEFORE.len();
    let end = body.len().checked_sub(END.len() + 4).ok_or_else(wrong)?;
    let end = find(&body[end..], END).ok_or_else(wrong)? + end;
    body.truncate(end);
    let sealed = body.get_mut(start..).ok_or_else(wrong)?;
    let (length, sealed) = sealed.split_first_chunk_mut::<4>().ok_or_else(wrong)?;
    let length = usize::try_from(u32::from_le_bytes(*length)).map_err(|_| wrong())?;
    let (signature, content) = sealed.split_at_mut_checked(length).ok_or_else(wrong)?;
    sealing.open(signature, content).ok_or_else(wrong)?;
    Ok(content.to_vec())
}

fn find(text: &[u8], part: &[u8]) -> Option<usize> {
    text.windows(part.len()).position(|window| window == part)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_one_side_seals_the_other_opens() {
        let (mut here, mut there) = Sealing::pair();
        for text in ["<a/>", "", "--Encrypted Boundary-- grüße"] {
            let body = seal(&mut here, text);
            assert_eq!(open(&mut there, body).unwrap(), text.as_bytes());
            let body = seal(&mut there, text);
            assert_eq!(open(&mut here, body).unwrap(), text.as_bytes());
        }
    }

    #[test]
    fn what_was_changed_or_cut_is_refused() {
        let whole = seal(&mut Sealing::pair().0, "<a>text</a>");
        for cut in 0..whole.len() - 3 {
            assert!(open(&mut Sealing::pair().1, whole[..cut].to_vec()).is_err(), "{cut} bytes");
        }
        let from = find(&whole, BEFORE).unwrap() + BEFORE.len();
        for at in from..whole.len() - END.len() - 2 {
            let mut changed = whole.clone();
            changed[at] ^= 0x20;
            assert!(open(&mut Sealing::pair().1, changed).is_err(), "byte {at}");
        }
    }
}
