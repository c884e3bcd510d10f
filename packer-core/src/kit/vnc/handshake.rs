//! How a VNC connection begins: versions, security, the size of the screen.

use des::Des;
use des::cipher::{Array, BlockCipherEncrypt, KeyInit};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

use crate::error::os_text;
use crate::secrets::Secret;

/// Of a reason that a server gives, and of its name, so much is read and shown.
const MOST_TEXT: u32 = 4096;

/// Securities of the protocol.
const NONE: u8 = 1;
const PASSWORD: u8 = 2;

/// Goes through the handshake; the width and height of the screen.
pub(super) async fn shake(stream: &mut TcpStream, password: Option<&Secret>) -> Result<(u16, u16), String> {
    let mut version = [0; 12];
    read(stream, &mut version).await?;
    let minor = match version.strip_prefix(b"RFB 003.").and_then(|rest| rest.strip_suffix(b"\n")) {
        Some(minor) => std::str::from_utf8(minor).ok().and_then(|m| m.parse::<u16>().ok()),
        // Some servers of Macs and others name later versions; all of them know 3.8.
        None if version.starts_with(b"RFB 00") => Some(8),
        None => None,
    };
    let Some(minor) = minor else { return Err("what answers is no VNC server".to_owned()) };
    // There are three versions; what lies between them is the lower one.
    let minor = if minor >= 8 {
        8
    } else if minor == 7 {
        7
    } else {
        3
    };
    write(stream, format!("RFB 003.{minor:03}\n").as_bytes()).await?;
    let security = match minor {
        3 => {
            let security = number(stream).await?;
            if security == 0 {
                return Err(reason(stream).await?);
            }
            u8::try_from(security).unwrap_or(0)
        }
        _ => {
            let [count] = bytes(stream).await?;
            if count == 0 {
                return Err(reason(stream).await?);
            }
            let mut offered = vec![0; usize::from(count)];
            read(stream, &mut offered).await?;
            let wanted = if password.is_some() { [PASSWORD, NONE] } else { [NONE, PASSWORD] };
            let chosen = wanted.into_iter().find(|security| offered.contains(security));
            let chosen = chosen.ok_or_else(|| unknown(&offered))?;
            write(stream, &[chosen]).await?;
            chosen
        }
    };
    match (security, password) {
        (NONE, _) => {}
        (PASSWORD, Some(password)) => {
            let mut challenge: [u8; 16] = bytes(stream).await?;
            answer(&mut challenge, password);
            write(stream, &challenge).await?;
        }
        (PASSWORD, None) => return Err("the server wants a password".to_owned()),
        (other, _) => return Err(unknown(&[other])),
    }
    // Before 3.8 nothing is said of a security without a password.
    if (security == PASSWORD || minor == 8) && number(stream).await? != 0 {
        let why = if minor == 8 { reason(stream).await? } else { "the password was refused".to_owned() };
        return Err(format!("security: {why}"));
    }
    // Others may stay connected.
    write(stream, &[1]).await?;
    let init: [u8; 24] = bytes(stream).await?;
    let [w0, w1, h0, h1, ..] = init;
    let [.., n0, n1, n2, n3] = init;
    text(stream, u32::from_be_bytes([n0, n1, n2, n3])).await?;
    Ok((u16::from_be_bytes([w0, w1]), u16::from_be_bytes([h0, h1])))
}

fn unknown(offered: &[u8]) -> String {
    let offered: Vec<String> = offered.iter().map(u8::to_string).collect();
    format!("the server has no security that is known here (it offers {})", offered.join(", "))
}

/// Encrypts a challenge with a password: by DES, each byte of the key with its bits the other way round. Only eight bytes of
/// a password count.
fn answer(challenge: &mut [u8; 16], password: &Secret) {
    let mut key = [0; 8];
    for (to, from) in key.iter_mut().zip(password.reveal().bytes()) {
        *to = from.reverse_bits();
    }
    let cipher = Des::new(&Array(key));
    for block in challenge.chunks_exact_mut(8) {
        if let Ok(block) = <&mut Array<u8, _>>::try_from(block) {
            cipher.encrypt_block(block);
        }
    }
}

async fn read(stream: &mut TcpStream, into: &mut [u8]) -> Result<(), String> {
    match stream.read_exact(into).await {
        Ok(_) => Ok(()),
        Err(e) if e.kind() == std::io::ErrorKind::UnexpectedEof => Err("EOF".to_owned()),
        Err(e) => Err(os_text(&e)),
    }
}

async fn bytes<const N: usize>(stream: &mut TcpStream) -> Result<[u8; N], String> {
    let mut bytes = [0; N];
    read(stream, &mut bytes).await.map(|()| bytes)
}

async fn number(stream: &mut TcpStream) -> Result<u32, String> {
    bytes(stream).await.map(u32::from_be_bytes)
}

async fn write(stream: &mut TcpStream, bytes: &[u8]) -> Result<(), String> {
    stream.write_all(bytes).await.map_err(|e| os_text(&e))
}

/// Why a server refuses.
async fn reason(stream: &mut TcpStream) -> Result<String, String> {
    let length = number(stream).await?;
    let reason = text(stream, length).await?;
    Ok(if reason.is_empty() { "the server refused and gave no reason".to_owned() } else { reason })
}

async fn text(stream: &mut TcpStream, length: u32) -> Result<String, String> {
    if length > MOST_TEXT {
        return Err(format!("the server sends a text of {length} bytes"));
    }
    let mut text = vec![0; length as usize];
    read(stream, &mut text).await?;
    // Some end it with a zero.
    let ends = |c: char| c.is_whitespace() || c.is_control();
    Ok(String::from_utf8_lossy(&text).trim_matches(ends).to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_challenge_is_answered_as_vnc_does() {
        // By OpenSSL: the key is "COW" with its bits turned round, in ECB.
        let mut challenge = *b"0123456789abcdef";
        answer(&mut challenge, &Secret::new("COW"));
        let hex: String = challenge.iter().map(|b| format!("{b:02x}")).collect();
        assert_eq!(hex, "8c3e75af9586ee25bb47677a363489ce");
        let (mut long, mut short) = ([7; 16], [7; 16]);
        answer(&mut long, &Secret::new("12345678 and more"));
        answer(&mut short, &Secret::new("12345678"));
        assert_eq!(long, short);
    }
}
