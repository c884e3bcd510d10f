//! Digests, password hashes, decryption and UUIDs.

use sha2::Digest;
use uuid::Uuid;

use super::{Add, Function, FunctionResult, Param, text};
use crate::value::{Type, Value};

pub(super) fn add(add: Add<'_>) {
    let digest = |body: fn(&[u8]) -> String| {
        Function::new([Param::string("str")], Type::String, move |a, _| {
            Ok(Value::from(body(text(&a[0]).as_bytes())))
        })
    };
    add("md5", digest(hex::<md5::Md5>));
    add("sha1", digest(hex::<sha1::Sha1>));
    add("sha256", digest(hex::<sha2::Sha256>));
    add("sha512", digest(hex::<sha2::Sha512>));
    add(
        "bcrypt",
        Function::new([Param::string("str")], Type::String, |a, _| bcrypt(a)).variadic(Param::number("cost")),
    );
    add(
        "rsadecrypt",
        Function::new(["ciphertext", "privatekey"].map(Param::string), Type::String, |a, _| {
            secret::rsa_decrypt(text(&a[0]), text(&a[1])).map(|s| Value::text(&s)).map_err(Into::into)
        }),
    );
    add("uuidv4", Function::new([], Type::String, |_, _| Ok(Value::from(Uuid::new_v4().to_string()))));
    add("uuidv5", Function::new(["namespace", "name"].map(Param::string), Type::String, |a, _| uuid_v5(a)));
}

fn hex<D: Digest>(data: &[u8]) -> String {
    D::digest(data).iter().map(|byte| format!("{byte:02x}")).collect()
}

fn bcrypt(args: &[Value]) -> FunctionResult {
    const DEFAULT: i64 = 10;
    if args.len() > 2 {
        return Err("bcrypt() takes no more than two arguments".into());
    }
    let cost = match args.len() {
        2 => super::whole(args, 1)?,
        _ => DEFAULT,
    };
    let password = text(&args[0]);
    if password.len() > 72 {
        return Err("error occurred generating password bcrypt: password length exceeds 72 bytes".into());
    }
    let cost = match u32::try_from(cost) {
        Ok(cost @ 4..=31) => cost,
        Err(_) if cost > 0 => return Err(format!("cost {cost} is outside the allowed range (4,31)").into()),
        Ok(cost @ 32..) => return Err(format!("cost {cost} is outside the allowed range (4,31)").into()),
        // A cost below the least one means the default.
        _ => DEFAULT as u32,
    };
    secret::bcrypt(password, cost).map(Value::from).map_err(Into::into)
}

fn uuid_v5(args: &[Value]) -> FunctionResult {
    let namespace = match text(&args[0]) {
        "dns" => Uuid::NAMESPACE_DNS,
        "url" => Uuid::NAMESPACE_URL,
        "oid" => Uuid::NAMESPACE_OID,
        "x500" => Uuid::NAMESPACE_X500,
        other => {
            Uuid::parse_str(other).map_err(|e| format!("uuidv5() doesn't support namespace {other} ({e})"))?
        }
    };
    let digest = sha1::Sha1::new().chain_update(namespace.as_bytes()).chain_update(text(&args[1])).finalize();
    let mut first = [0; 16];
    first.copy_from_slice(&digest[..16]);
    Ok(Value::from(uuid::Builder::from_sha1_bytes(first).into_uuid().to_string()))
}

/// A text that was encrypted for an RSA key.
#[cfg(feature = "aws-ec2")]
pub(crate) fn decrypted_with_rsa(data: &str, key: &str) -> Result<String, String> {
    secret::rsa_decrypt(data, key)
}

#[cfg(feature = "functions-crypto")]
mod secret {
    use base64::Engine;
    use base64::prelude::BASE64_STANDARD;
    use rsa::pkcs1::DecodeRsaPrivateKey;
    use rsa::{Pkcs1v15Encrypt, RsaPrivateKey};

    /// The password is at most 72 bytes and the cost in range.
    pub(super) fn bcrypt(password: &str, cost: u32) -> Result<String, String> {
        let hash = bcrypt::hash_with_result(password, cost).map_err(|e| e.to_string())?;
        Ok(hash.format_for_version(bcrypt::Version::TwoA))
    }

    pub(super) fn rsa_decrypt(ciphertext: &str, key: &str) -> Result<String, String> {
        let wrapped: String = ciphertext.chars().filter(|c| !matches!(c, '\r' | '\n')).collect();
        let data = BASE64_STANDARD.decode(wrapped).map_err(|_| {
            format!("failed to decode input {ciphertext:?}: cipher text must be base64-encoded")
        })?;
        let key = read_key(key)?;
        let plain = key.decrypt(Pkcs1v15Encrypt, &data).map_err(|_| "decryption error".to_owned())?;
        String::from_utf8(plain).map_err(|_| "the decrypted text is not valid UTF-8".to_owned())
    }

    /// The first PEM block of the text, which must be an RSA key of its own that no password protects.
    fn read_key(text: &str) -> Result<RsaPrivateKey, String> {
        let start = text.find("-----BEGIN ").ok_or("failed to parse key: no key found")?;
        let block = &text[start..];
        if block.contains("Proc-Type: 4,ENCRYPTED") || block.starts_with("-----BEGIN ENCRYPTED") {
            return Err(
                "failed to parse key: password protected keys are not supported. Please decrypt the key \
                        prior to use"
                    .to_owned(),
            );
        }
        let end = block.find("-----END ").ok_or("failed to parse key: no key found")?;
        let rest = &block[end..];
        let end = end + rest.find('\n').unwrap_or(rest.len());
        RsaPrivateKey::from_pkcs1_pem(&block[..end]).map_err(|e| format!("failed to parse key: {e}"))
    }
}

#[cfg(not(feature = "functions-crypto"))]
mod secret {
    const MISSING: &str = "this program was built without the feature `functions-crypto` of packer-core";

    pub(super) fn bcrypt(_: &str, _: u32) -> Result<String, String> {
        Err(MISSING.to_owned())
    }

    pub(super) fn rsa_decrypt(_: &str, _: &str) -> Result<String, String> {
        Err(MISSING.to_owned())
    }
}
