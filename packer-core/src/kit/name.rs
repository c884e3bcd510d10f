//! Names for what is about to be made.

/// A name that nothing else has, `PREFIX-` and 32 hexadecimal digits: for a [`Resource`](crate::Resource), which is written down
/// by its name before it exists.
///
/// ```
/// use packer_core::{Resource, kit};
/// let disk = Resource::new("disk", kit::unique_name("disk"));
/// assert!(disk.name.starts_with("disk-") && disk.name.len() == 37);
/// ```
pub fn unique_name(prefix: &str) -> String {
    format!("{prefix}-{}", uuid::Uuid::new_v4().simple())
}
