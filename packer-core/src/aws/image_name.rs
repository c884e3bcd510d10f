//! What the name of an image of EC2 may hold.

/// Whether a text has only characters that the name of an image may have.
pub fn is_image_name(text: &str) -> bool {
    text.bytes().all(is_allowed)
}

/// The text with a `-` in the place of every byte that the name of an image may not have: what `clean_resource_name` gives in
/// legacy JSON templates.
///
/// ```
/// assert_eq!(packer_core::aws::clean_image_name("web: 1.2+3"), "web- 1.2-3");
/// ```
pub fn clean_image_name(text: &str) -> String {
    text.bytes().map(|c| if is_allowed(c) { char::from(c) } else { '-' }).collect()
}

fn is_allowed(c: u8) -> bool {
    c.is_ascii_alphanumeric() || b"()[] ./-'@_".contains(&c)
}
