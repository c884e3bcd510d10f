//! Names for what is about to be made.

use std::path::{Path, PathBuf};

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

/// What a file or folder is called that is kept although it did not pass its test: `disk.failed-test.qcow2` for `disk.qcow2`, and
/// with a number behind it where there is one already. For [`BootTest::set_aside`](crate::BootTest::set_aside).
///
/// ```
/// # use packer_core::kit;
/// assert_eq!(kit::failed_test_name("out/disk.qcow2"), std::path::Path::new("out/disk.failed-test.qcow2"));
/// assert_eq!(kit::failed_test_name("out/disk"), std::path::Path::new("out/disk.failed-test"));
/// ```
pub fn failed_test_name(path: impl AsRef<Path>) -> PathBuf {
    let path = path.as_ref();
    let named = |number: u32| {
        let mut name = path.file_stem().unwrap_or_default().to_owned();
        name.push(".failed-test");
        if number > 1 {
            name.push(format!("-{number}"));
        }
        if let Some(extension) = path.extension() {
            name.push(".");
            name.push(extension);
        }
        path.with_file_name(name)
    };
    let mut number = 1;
    while number < u32::MAX && named(number).symlink_metadata().is_ok() {
        number += 1;
    }
    named(number)
}

#[cfg(test)]
mod tests {
    use crate::testing::TempFolder;

    #[test]
    fn what_failed_before_keeps_its_name() {
        let folder = TempFolder::new();
        let disk = folder.path().join("disk.img");
        for expected in ["disk.failed-test.img", "disk.failed-test-2.img", "disk.failed-test-3.img"] {
            let name = super::failed_test_name(&disk);
            assert_eq!(name, folder.path().join(expected));
            std::fs::write(name, "").unwrap();
        }
    }
}
