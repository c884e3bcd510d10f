//! What the id of a key may look like.

/// Whether a text can name a key of KMS: its id, its alias, or the ARN of either.
pub(in crate::amazon) fn is_key(text: &str) -> bool {
    let Some(arn) = text.strip_prefix("arn:") else { return is_id(text) || is_alias(text) };
    let parts: Vec<&str> = arn.splitn(5, ':').collect();
    let [partition, "kms", region, account, key] = parts[..] else { return false };
    let of = |text: &str, part: fn(&u8) -> bool| !text.is_empty() && text.as_bytes().iter().all(part);
    let is_name = |c: &u8| c.is_ascii_lowercase() || c.is_ascii_digit() || *c == b'-';
    (partition == "aws" || partition.starts_with("aws-") && of(partition, is_name))
        && of(region, is_name)
        && account.len() == 12
        && of(account, u8::is_ascii_digit)
        && (is_alias(key) || key.strip_prefix("key/").is_some_and(is_id))
}

fn is_id(text: &str) -> bool {
    let digits = text.strip_prefix("mrk-").unwrap_or(text);
    !digits.is_empty() && digits.bytes().all(|c| matches!(c, b'0'..=b'9' | b'a'..=b'f' | b'-'))
}

fn is_alias(text: &str) -> bool {
    let name = text.strip_prefix("alias/").unwrap_or_default();
    !name.is_empty() && name.bytes().all(|c| c.is_ascii_alphanumeric() || b":/_-".contains(&c))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keys_are_ids_aliases_and_arns_of_them() {
        for right in [
            "1234abcd-12ab-34cd-56ef-1234567890ab",
            "mrk-12345678123456781234567812345678",
            "alias/my/key_1:x-y",
            "arn:aws:kms:us-east-1:111122223333:alias/x",
            "arn:aws:kms:us-east-1:111122223333:key/mrk-1234",
            "arn:aws-us-gov:kms:us-gov-west-1:111122223333:key/1234abcd-12ab",
            "arn:aws-cn:kms:cn-north-1:111122223333:key/1234",
        ] {
            assert!(is_key(right), "{right}");
        }
        for wrong in [
            "",
            "my-key",
            "1234ABCD-12AB",
            "mrk-",
            "alias/",
            "alias/a b",
            "alias/ä",
            "arn:aws",
            "arn:aws:kms:us-east-1:1111:key/1234abcd",
            "arn:aws:kms::111122223333:key/1234abcd",
            "arn:aws:s3:us-east-1:111122223333:key/1234abcd",
            "arn:awsome:kms:us-east-1:111122223333:key/1234abcd",
            "arn:aws:kms:us-east-1:111122223333:1234abcd",
            "arn:aws:kms:us-east-1:111122223333:key/alias/x",
            "arn:aws:kms:us-east-1:111122223333:key/12:34",
        ] {
            assert!(!is_key(wrong), "{wrong}");
        }
    }
}
