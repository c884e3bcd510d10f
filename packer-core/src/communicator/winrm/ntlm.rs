//! NTLM version 2, as MS-NLMP describes it: three messages that log in, and the sealing of what follows.
//!
//! Extended session security with keys of 128 bits, or nothing: what is weaker is refused.

use hmac::{Hmac, KeyInit as _, Mac as _};
use md4::Md4;
use md5::{Digest as _, Md5};
use rc4::{Rc4, StreamCipher as _};

const SIGNATURE: &[u8; 8] = b"NTLMSSP\0";

const UNICODE: u32 = 0x0000_0001;
const REQUEST_TARGET: u32 = 0x0000_0004;
const SIGN: u32 = 0x0000_0010;
const SEAL: u32 = 0x0000_0020;
const NTLM: u32 = 0x0000_0200;
const ALWAYS_SIGN: u32 = 0x0000_8000;
const EXTENDED_SECURITY: u32 = 0x0008_0000;
const TARGET_INFO: u32 = 0x0080_0000;
const VERSION: u32 = 0x0200_0000;
const KEY_128: u32 = 0x2000_0000;
const KEY_EXCHANGE: u32 = 0x4000_0000;
const KEY_56: u32 = 0x8000_0000;

/// What we ask for, and need.
const WANTED: u32 = UNICODE
    | REQUEST_TARGET
    | SIGN
    | SEAL
    | NTLM
    | ALWAYS_SIGN
    | EXTENDED_SECURITY
    | TARGET_INFO
    | VERSION
    | KEY_128
    | KEY_EXCHANGE
    | KEY_56;
const NEEDED: u32 = UNICODE | SEAL | EXTENDED_SECURITY | KEY_128 | KEY_EXCHANGE;

/// The version of Windows that we speak like: 10.0, of which only the last byte (the version of NTLM) means something.
const LIKE_WINDOWS: [u8; 8] = [10, 0, 0, 0, 0, 0, 0, 15];

// What a list about the target has in it.
const END: u16 = 0;
const FLAGS: u16 = 6;
const TIME: u16 = 7;
const TARGET_NAME: u16 = 9;
const CHANNEL: u16 = 10;

/// In the flags of that list: the third message has a checksum over all three.
const HAS_CHECKSUM: u32 = 2;
/// Where that checksum stands.
const CHECKSUM_AT: usize = 72;

type Key = [u8; 16];

/// Who logs in, and where.
pub(super) struct Login<'a> {
    /// `NAME`, `DOMAIN\NAME` or `NAME@DOMAIN`.
    pub(super) user: &'a str,
    pub(super) password: &'a str,
    /// The server's name.
    pub(super) host: &'a str,
    /// The digest of the server's certificate, where there is one: the login is worth nothing anywhere else then.
    pub(super) certificate: Option<&'a [u8]>,
    /// 24 bytes that nobody can guess.
    pub(super) random: [u8; 24],
    /// Units of 100 nanoseconds since 1601, for servers that do not say what time it is.
    pub(super) time: u64,
}

/// The first message: what we can.
pub(super) fn negotiate() -> Vec<u8> {
    let mut message = SIGNATURE.to_vec();
    message.extend(1_u32.to_le_bytes());
    message.extend(WANTED.to_le_bytes());
    // Neither domain nor name of this computer.
    message.extend([0; 16]);
    message.extend(LIKE_WINDOWS);
    message
}

/// The third message, which answers the second one, and the keys for what follows.
///
/// # Errors
/// Where the second one is malformed, or offers less than is needed.
pub(super) fn authenticate(
    login: &Login<'_>,
    first: &[u8],
    second: &[u8],
) -> Result<(Vec<u8>, Sealing), String> {
    let challenge = Challenge::read(second)?;
    if challenge.flags & NEEDED != NEEDED {
        return Err("the server does not offer NTLM with 128-bit keys and extended session security".into());
    }
    let (domain, name) = match (login.user.split_once('\\'), login.user.contains('@')) {
        (Some((domain, name)), _) => (domain.to_owned(), name),
        (None, true) => (String::new(), login.user),
        (None, false) => (challenge.target.clone(), login.user),
    };
    let client: [u8; 8] = std::array::from_fn(|i| login.random[i]);
    let exported: Key = std::array::from_fn(|i| login.random[8 + i]);
    let told = challenge.about.iter().find(|(kind, _)| *kind == TIME).map(|(_, value)| value.clone());
    let time = told.clone().unwrap_or_else(|| login.time.to_le_bytes().to_vec());
    let about = about(&challenge, login, told.is_some());

    let key = response_key(login.password, name, &domain);
    let (response, session) = response(&key, challenge.nonce, client, &time, &about);
    let old_response = match told {
        Some(_) => vec![0; 24],
        None => [&hmac(&key, &[&challenge.nonce, &client])[..], &client].concat(),
    };
    let mut encrypted = exported;
    rc4(&session)?.apply_keystream(&mut encrypted);

    let flags = challenge.flags & WANTED;
    let mut message = SIGNATURE.to_vec();
    message.extend(3_u32.to_le_bytes());
    let parts = [old_response, response, utf16(&domain), utf16(name), Vec::new(), encrypted.to_vec()];
    let mut at = CHECKSUM_AT + 16;
    for part in &parts {
        let short = |n: usize| u16::try_from(n).map_err(|_| "a name is too long".to_owned());
        let length = short(part.len())?.to_le_bytes();
        message.extend(length);
        message.extend(length);
        message.extend(u32::from(short(at)?).to_le_bytes());
        at += part.len();
    }
    message.extend(flags.to_le_bytes());
    message.extend(LIKE_WINDOWS);
    message.extend([0; 16]);
    message.extend(parts.concat());
    let checksum = hmac(&exported, &[first, second, &message]);
    message[CHECKSUM_AT..CHECKSUM_AT + 16].copy_from_slice(&checksum);
    Ok((message, Sealing::new(&exported)?))
}

/// The second message: what the server wants proved.
struct Challenge {
    flags: u32,
    nonce: [u8; 8],
    target: String,
    about: Vec<(u16, Vec<u8>)>,
}

impl Challenge {
    fn read(message: &[u8]) -> Result<Self, String> {
        let wrong = || "the server's NTLM challenge is malformed".to_owned();
        if message.get(..12) != Some(&b"NTLMSSP\0\x02\0\0\0"[..]) {
            return Err(wrong());
        }
        let number = |at: usize| Some(u32::from_le_bytes(message.get(at..at + 4)?.try_into().ok()?));
        let field = |at: usize| {
            let length = usize::from(u16::from_le_bytes(message.get(at..at + 2)?.try_into().ok()?));
            let from = usize::try_from(number(at + 4)?).ok()?;
            message.get(from..from.checked_add(length)?)
        };
        let flags = number(20).ok_or_else(wrong)?;
        let nonce = message.get(24..32).and_then(|n| n.try_into().ok()).ok_or_else(wrong)?;
        let target = field(12).ok_or_else(wrong)?;
        let target: Vec<u16> = target.chunks_exact(2).map(|c| u16::from_le_bytes([c[0], c[1]])).collect();
        let target = String::from_utf16(&target).map_err(|_| wrong())?;
        let mut about = Vec::new();
        let mut rest = if flags & TARGET_INFO == 0 { &[][..] } else { field(40).ok_or_else(wrong)? };
        while let Some((head, behind)) = rest.split_at_checked(4) {
            let (kind, length) =
                (u16::from_le_bytes([head[0], head[1]]), usize::from(u16::from_le_bytes([head[2], head[3]])));
            if kind == END {
                break;
            }
            let (value, behind) = behind.split_at_checked(length).ok_or_else(wrong)?;
            about.push((kind, value.to_vec()));
            rest = behind;
        }
        Ok(Self { flags, nonce, target, about })
    }
}

/// The list about the target that is sent back, with what we add to it.
fn about(challenge: &Challenge, login: &Login<'_>, has_checksum: bool) -> Vec<u8> {
    let mut list: Vec<(u16, Vec<u8>)> = challenge
        .about
        .iter()
        .filter(|(kind, _)| !matches!(*kind, FLAGS | CHANNEL | TARGET_NAME))
        .cloned()
        .collect();
    if has_checksum {
        list.push((FLAGS, HAS_CHECKSUM.to_le_bytes().to_vec()));
        list.push((CHANNEL, login.certificate.map_or_else(|| vec![0; 16], channel)));
        list.push((TARGET_NAME, utf16(&format!("HTTP/{}", login.host))));
    }
    let mut bytes = Vec::new();
    for (kind, value) in list {
        bytes.extend(kind.to_le_bytes());
        // What came in a list of such lengths fits into one, and names of hosts are short.
        bytes.extend(u16::try_from(value.len()).unwrap_or_default().to_le_bytes());
        bytes.extend(value);
    }
    bytes.extend([0; 4]);
    bytes
}

/// The connection's name, by the digest of the server's certificate.
fn channel(certificate: &[u8]) -> Vec<u8> {
    let name = [b"tls-server-end-point:", certificate].concat();
    let mut bindings = vec![0; 16];
    bindings.extend(u32::try_from(name.len()).unwrap_or_default().to_le_bytes());
    bindings.extend(name);
    Md5::digest(&bindings).to_vec()
}

/// The key of a user, made of the password.
fn response_key(password: &str, user: &str, domain: &str) -> Key {
    let digest: Key = Md4::digest(utf16(password)).into();
    hmac(&digest, &[&utf16(&user.to_uppercase()), &utf16(domain)])
}

/// What proves that one knows the password, and the key that follows from it.
fn response(key: &Key, server: [u8; 8], client: [u8; 8], time: &[u8], about: &[u8]) -> (Vec<u8>, Key) {
    let said = [&[1, 1, 0, 0, 0, 0, 0, 0][..], time, &client, &[0; 4], about, &[0; 4]].concat();
    let proof = hmac(key, &[&server, &said]);
    let session = hmac(key, &[&proof]);
    ([&proof[..], &said].concat(), session)
}

/// Seals what is sent and opens what comes; the order of messages is part of it.
pub(super) struct Sealing {
    sends: Direction,
    receives: Direction,
}

struct Direction {
    signing: Key,
    cipher: Rc4,
    count: u32,
}

impl Sealing {
    fn new(exported: &Key) -> Result<Self, String> {
        Ok(Self {
            sends: Direction::new(exported, "client-to-server")?,
            receives: Direction::new(exported, "server-to-client")?,
        })
    }

    /// Both sides.
    #[cfg(test)]
    pub(super) fn pair() -> (Self, Self) {
        let side = || Self::new(&[7; 16]).expect("a key of the right length");
        let (here, mut there) = (side(), side());
        std::mem::swap(&mut there.sends, &mut there.receives);
        (here, there)
    }

    /// The signature of a message, which is encrypted in place.
    pub(super) fn seal(&mut self, message: &mut [u8]) -> [u8; 16] {
        let digest = self.sends.digest(message);
        self.sends.cipher.apply_keystream(message);
        self.sends.signature(digest)
    }

    /// Decrypts a message in place; `None` where it is not what was sent.
    #[must_use]
    pub(super) fn open(&mut self, signature: &[u8], message: &mut [u8]) -> Option<()> {
        self.receives.cipher.apply_keystream(message);
        let digest = self.receives.digest(message);
        let expected = self.receives.signature(digest);
        // Of a forged message nothing is to be learnt by how long this takes: the connection ends with it.
        (signature == expected).then_some(())
    }
}

impl Direction {
    fn new(exported: &Key, way: &str) -> Result<Self, String> {
        let key = |what: &str| -> Key {
            let magic = format!("session key to {way} {what} key magic constant\0");
            Md5::digest([&exported[..], magic.as_bytes()].concat()).into()
        };
        Ok(Self { signing: key("signing"), cipher: rc4(&key("sealing"))?, count: 0 })
    }

    fn digest(&self, message: &[u8]) -> Key {
        hmac(&self.signing, &[&self.count.to_le_bytes(), message])
    }

    /// Follows the encryption of the message itself, with the same cipher.
    fn signature(&mut self, digest: Key) -> [u8; 16] {
        let mut signature = [0; 16];
        signature[0] = 1;
        signature[4..12].copy_from_slice(&digest[..8]);
        self.cipher.apply_keystream(&mut signature[4..12]);
        signature[12..].copy_from_slice(&self.count.to_le_bytes());
        self.count = self.count.wrapping_add(1);
        signature
    }
}

fn hmac(key: &Key, parts: &[&[u8]]) -> Key {
    // A key shorter than a block is filled up with zeros.
    let mut block = [0; 64];
    block[..key.len()].copy_from_slice(key);
    let mut mac = Hmac::<Md5>::new(&block.into());
    parts.iter().for_each(|part| mac.update(part));
    mac.finalize().into_bytes().into()
}

fn rc4(key: &Key) -> Result<Rc4, String> {
    Rc4::new_from_slice(key).map_err(|e| e.to_string())
}

fn utf16(text: &str) -> Vec<u8> {
    text.encode_utf16().flat_map(u16::to_le_bytes).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    /// From the hexadecimal text of MS-NLMP, section 4.2.
    fn hex(text: &str) -> Vec<u8> {
        let digits: Vec<u8> = text.bytes().filter(u8::is_ascii_hexdigit).collect();
        let pair = |c: &[u8]| u8::from_str_radix(std::str::from_utf8(c).unwrap(), 16).unwrap();
        digits.chunks(2).map(pair).collect()
    }

    fn key(text: &str) -> Key {
        hex(text).try_into().unwrap()
    }

    const SERVER: [u8; 8] = [0x01, 0x23, 0x45, 0x67, 0x89, 0xab, 0xcd, 0xef];
    const CLIENT: [u8; 8] = [0xaa; 8];

    /// Names of the target as in section 4.2.4: domain "Domain", server "Server".
    fn target() -> Vec<u8> {
        let pair = |kind: u16, name: &str| {
            let name = utf16(name);
            [&kind.to_le_bytes()[..], &u16::try_from(name.len()).unwrap().to_le_bytes(), &name].concat()
        };
        [pair(2, "Domain"), pair(1, "Server"), vec![0; 4]].concat()
    }

    #[test]
    fn keys_and_responses_are_those_of_the_specification() {
        let user = response_key("Password", "User", "Domain");
        assert_eq!(user, key("0c868a403bfd7a93a3001ef22ef02e3f"));
        let (response, session) = response(&user, SERVER, CLIENT, &[0; 8], &target());
        assert_eq!(response[..16], key("68cd0ab851e51c96aabc927bebef6a1c"));
        assert_eq!(session, key("8de40ccadbc14a82f15cb0ad0de95ca3"));
        let old = hmac(&user, &[&SERVER, &CLIENT]);
        assert_eq!(old, key("86c35097ac9cec102554764a57cccc19"));
        let mut encrypted: Key = [0x55; 16];
        rc4(&session).unwrap().apply_keystream(&mut encrypted);
        assert_eq!(encrypted, key("c5dad2544fc9799094ce1ce90bc9d03e"));
    }

    #[test]
    fn sealing_is_that_of_the_specification() {
        let mut sealing = Sealing::new(&[0x55; 16]).unwrap();
        assert_eq!(sealing.sends.signing, key("4788dc861b4782f35d43fd98fe1a2d39"));
        let mut message = utf16("Plaintext");
        let signature = sealing.seal(&mut message);
        assert_eq!(message, hex("54e50165bf1936dc996020c1811b0f06fb5f"));
        assert_eq!(signature, key("010000007fb38ec5c55d497600000000"));
    }

    #[test]
    fn what_was_changed_on_the_way_is_not_opened() {
        let (mut client, mut server) = Sealing::pair();
        for text in ["one", "two", "three"] {
            let mut message = text.as_bytes().to_vec();
            let signature = server.seal(&mut message);
            client.open(&signature, &mut message).unwrap();
            assert_eq!(message, text.as_bytes());
        }
        let mut message = b"four".to_vec();
        let signature = server.seal(&mut message);
        message[0] ^= 1;
        assert!(client.open(&signature, &mut message).is_none());
    }

    fn challenge(flags: u32, about: &[u8]) -> Vec<u8> {
        let name = utf16("Server");
        let mut message = [&SIGNATURE[..], &[2, 0, 0, 0]].concat();
        message.extend([12, 0, 12, 0, 56, 0, 0, 0]);
        message.extend(flags.to_le_bytes());
        message.extend(SERVER);
        message.extend([0; 8]);
        let length = u16::try_from(about.len()).unwrap().to_le_bytes();
        message.extend([length[0], length[1], length[0], length[1], 68, 0, 0, 0]);
        message.extend(LIKE_WINDOWS);
        message.extend(name);
        message.extend(about);
        message
    }

    fn login<'a>(user: &'a str, certificate: Option<&'a [u8]>) -> Login<'a> {
        Login { user, password: "Password", host: "h", certificate, random: [0x55; 24], time: 5 }
    }

    #[test]
    fn the_third_message_has_everything_at_its_place() {
        let timed = [&[7, 0, 8, 0][..], &[9; 8], &target()].concat();
        let second = challenge(WANTED, &timed);
        for (user, domain, name) in [
            ("User", "Server", "User"),
            ("Domain\\User", "Domain", "User"),
            ("user@domain", "", "user@domain"),
        ] {
            let (third, _) = authenticate(&login(user, Some(&[1; 32])), &negotiate(), &second).unwrap();
            let field = |n: usize| {
                let at = 12 + 8 * n;
                let length = usize::from(u16::from_le_bytes([third[at], third[at + 1]]));
                let from = usize::from(u16::from_le_bytes([third[at + 4], third[at + 5]]));
                third[from..from + length].to_vec()
            };
            assert_eq!((field(2), field(3), field(0)), (utf16(domain), utf16(name), vec![0; 24]));
            let key = response_key("Password", name, domain);
            let said = field(1);
            assert_eq!(said[..16], hmac(&key, &[&SERVER, &said[16..]]));
            assert!(said.windows(16).any(|w| w == channel(&[1; 32])), "it is bound to the certificate");
            let mut blank = third.clone();
            blank[CHECKSUM_AT..CHECKSUM_AT + 16].fill(0);
            let checksum = hmac(&[0x55; 16], &[&negotiate(), &second, &blank]);
            assert_eq!(third[CHECKSUM_AT..CHECKSUM_AT + 16], checksum);
        }
    }

    #[test]
    fn less_than_is_needed_and_what_is_malformed_is_refused() {
        let refused = |second: &[u8]| match authenticate(&login("u", None), &negotiate(), second) {
            Ok(_) => panic!("it was taken"),
            Err(why) => why,
        };
        for missing in [EXTENDED_SECURITY, KEY_128, SEAL] {
            assert!(refused(&challenge(WANTED & !missing, &target())).contains("does not offer"));
        }
        let whole = challenge(WANTED, &target());
        for cut in [0, 8, 12, 31, 47, 60, whole.len() - 6] {
            assert!(refused(&whole[..cut]).contains("malformed"), "{cut}");
        }
        let mut far = whole;
        far[44..48].fill(0xff);
        assert!(refused(&far).contains("malformed"));
    }
}
