//! The device that the volume becomes: chosen while nobody else on this computer chooses, and found again under the name that
//! the kernel gives it.

use std::fs;
use std::path::Path;
use std::time::Duration;

use aws_sdk_ec2::types::Instance;
use packer_core::kit::{Locked, try_lock};
use packer_core::{Context, Error, Result};
use tokio::time::Instant;

/// The lock that all of this computer's builds of this kind share, Packer's too.
const LOCK: &str = "/var/lock/packer-chroot/lock";

/// The letters of devices that may be chosen.
const LETTERS: std::ops::RangeInclusive<char> = 'f'..='p';

/// How long a device may take to appear.
const APPEARING: Duration = Duration::from_secs(30);

/// Waits until nobody else chooses a device. As long as the value lives nobody does.
pub(super) async fn lock(cx: &Context) -> Result<Locked> {
    let path = Path::new(LOCK);
    if let Some(folder) = path.parent() {
        fs::create_dir_all(folder).map_err(|e| Error::io("mkdir", folder, e))?;
    }
    loop {
        match try_lock(path).map_err(|e| Error::io("open", path, e))? {
            Locked::Theirs => cx.sleep(Duration::from_millis(200)).await?,
            ours => return Ok(ours),
        }
    }
}

/// The first device that neither this computer nor EC2 has.
pub(super) fn choose(here: &Instance) -> Result<String> {
    let disks: Vec<String> = fs::read_dir("/sys/block")
        .map_err(|e| Error::io("open", "/sys/block", e))?
        .filter_map(|entry| entry.ok()?.file_name().into_string().ok())
        .collect();
    let taken: Vec<&str> =
        here.block_device_mappings().iter().filter_map(|device| device.device_name()).collect();
    let exists = |path: &str| Path::new(path).exists();
    first_free(&disks, &taken, exists).ok_or_else(|| Error::provider("available device could not be found"))
}

fn first_free(disks: &[String], taken: &[&str], exists: impl Fn(&str) -> bool) -> Option<String> {
    let has = |prefix: &&&str| disks.iter().any(|disk| disk.starts_with(**prefix));
    // Where disks are called otherwise (`nvme0n1`), the name is only for EC2.
    let prefix = ["sd", "xvd"].iter().find(has).copied().unwrap_or("xvd");
    LETTERS.map(|letter| format!("/dev/{prefix}{letter}")).find(|device| {
        let is_taken = taken.iter().any(|name| for_ec2(name) == for_ec2(device));
        !is_taken && !exists(device) && !exists(&format!("{device}1"))
    })
}

/// What EC2 calls a device.
pub(super) fn for_ec2(device: &str) -> String {
    device.replacen("/xvd", "/sd", 1)
}

/// Waits for a device that was chosen here, and says what the kernel calls it: disks of NVMe have names of their own. What does not
/// appear keeps its name, and whoever uses it will tell.
pub(super) async fn appeared(cx: &Context, device: &str, volume: &str) -> Result<String> {
    let link = format!("/dev/disk/by-id/nvme-Amazon_Elastic_Block_Store_{}", volume.replace('-', ""));
    let began = Instant::now();
    loop {
        if Path::new(device).exists() || began.elapsed() > APPEARING {
            return Ok(device.to_owned());
        }
        if let Ok(real) = fs::canonicalize(&link) {
            return Ok(real.to_string_lossy().into_owned());
        }
        cx.sleep(Duration::from_millis(200)).await?;
    }
}

/// A partition of a device that the kernel was asked for the name of.
pub(super) fn partition(device: &str, partition: &str) -> String {
    let is_number = |c: char| c.is_ascii_digit();
    let between = if device.ends_with(is_number) && partition.starts_with(is_number) { "p" } else { "" };
    format!("{device}{between}{partition}")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_first_free_device_is_chosen() {
        let disks = |names: &[&str]| names.iter().map(|name| (*name).to_owned()).collect::<Vec<_>>();
        let free = |_: &str| false;
        assert_eq!(first_free(&disks(&["loop0", "xvda"]), &[], free).as_deref(), Some("/dev/xvdf"));
        assert_eq!(first_free(&disks(&["sda"]), &["/dev/sda1"], free).as_deref(), Some("/dev/sdf"));
        assert_eq!(first_free(&disks(&["nvme0n1"]), &["/dev/sdf"], free).as_deref(), Some("/dev/xvdg"));
        let exists = |path: &str| matches!(path, "/dev/xvdf" | "/dev/xvdg1");
        assert_eq!(first_free(&disks(&["xvda"]), &["/dev/xvdh"], exists).as_deref(), Some("/dev/xvdi"));
        assert_eq!(first_free(&disks(&["xvda"]), &[], |_| true), None);
    }

    #[test]
    fn names_of_devices() {
        assert_eq!(for_ec2("/dev/xvdf"), "/dev/sdf");
        assert_eq!(partition("/dev/xvdf", "1"), "/dev/xvdf1");
        assert_eq!(partition("/dev/nvme1n1", "1"), "/dev/nvme1n1p1");
        assert_eq!(partition("/dev/nvme1n1", "p2"), "/dev/nvme1n1p2");
    }
}
