//! The password that Windows makes when an instance starts for the first time.

use crate::language::functions::decrypted_with_rsa;
use crate::secrets::Secret;

/// The password of an instance as EC2 shows it (base64 of what is encrypted for the key pair, by RSA with PKCS #1 v1.5), decrypted
/// with the private key as text.
///
/// # Errors
/// What is no such text or key, or does not belong together.
pub fn decrypted(data: &str, private_key: &Secret) -> Result<Secret, String> {
    decrypted_with_rsa(data, private_key.reveal()).map(Secret::new)
}
