//! Block devices: of the instance when it starts, and of the image.

use std::ops::RangeInclusive;

use packer_core::{Diagnostic, Diagnostics};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// A block device of an instance or an image.
#[derive(Debug, Clone, Default, PartialEq, Deserialize, Serialize, JsonSchema)]
#[serde(default)]
#[non_exhaustive]
pub struct BlockDevice {
    /// The name of the device, as `/dev/sdb`. Required.
    pub device_name: String,
    /// The size in GiB. Default that of the snapshot.
    pub volume_size: i64,
    /// The kind of volume: `gp2`, `gp3`, `io1`, `io2`, `sc1`, `st1`, `standard`.
    pub volume_type: String,
    /// Operations a second. Only `gp3`, `io1` and `io2` are told of them.
    pub iops: Option<i64>,
    /// MiB a second, 125 to 1000. Only for `gp3`.
    pub throughput: Option<i64>,
    /// Whether the volume is encrypted. Default what its snapshot is.
    pub encrypted: Option<bool>,
    /// The key that it is encrypted with. Needs `encrypted`. Default the account's own for EBS.
    pub kms_key_id: String,
    /// The snapshot that the volume is made of.
    pub snapshot_id: String,
    /// Whether the volume goes when the instance does.
    pub delete_on_termination: bool,
    /// The name of an instance store, as `ephemeral0`: no volume is made.
    pub virtual_name: String,
    /// Whether a device of that name is left out.
    pub no_device: bool,
}

impl BlockDevice {
    /// Says the first thing that is wrong with it.
    pub(in crate::amazon) fn check(&self, found: &mut Diagnostics) {
        if let Err(text) = self.checked() {
            found.push(Diagnostic::error(text));
        }
    }

    fn checked(&self) -> Result<(), String> {
        let name = &self.device_name;
        if name.is_empty() {
            return Err("The `device_name` must be specified for every device in the block device mapping."
                .to_owned());
        }
        if !self.kms_key_id.is_empty() && self.encrypted == Some(false) {
            return Err(format!(
                "The device {name}, must also have `encrypted: true` when setting a kms_key_id."
            ));
        }
        let outside =
            |value: Option<i64>, range: RangeInclusive<i64>| value.is_some_and(|v| !range.contains(&v));
        let kind = self.volume_type.as_str();
        match kind {
            // Without a size there is nothing to compare with.
            "io1" | "io2" if self.volume_size != 0 => {
                let most = if kind == "io1" { 50 } else { 500 };
                // Of whole numbers: 509 to 10 is 50.
                if self.iops.is_some_and(|iops| iops.saturating_div(self.volume_size) > most) {
                    return Err(format!(
                        "{name}: the maximum ratio of provisioned IOPS to requested volume size (in GiB) is {most}:1 for \
                         {kind} volumes"
                    ));
                }
                if outside(self.iops, 100..=64000) {
                    return Err(format!("IOPS must be between 100 and 64000 for device {name}"));
                }
            }
            "gp3" if outside(self.iops, 3000..=16000) => {
                return Err(format!("IOPS must be between 3000 and 16000 for device {name}"));
            }
            "gp3" if outside(self.throughput, 125..=1000) => {
                return Err(format!("Throughput must be between 125 and 1000 for device {name}"));
            }
            _ => {}
        }
        if kind != "gp3" && self.throughput.is_some() {
            return Err(format!("Throughput is only valid for gp3 volumes, {name:?} is of type {kind}"));
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn wrong(json: serde_json::Value) -> Option<String> {
        serde_json::from_value::<BlockDevice>(json).unwrap().checked().err()
    }

    #[test]
    fn only_the_first_mistake_of_a_device_is_told() {
        let device = |kind: &str, size: i64, iops: i64| {
            wrong(
                serde_json::json!({"device_name": "d", "volume_type": kind, "volume_size": size, "iops": iops}),
            )
        };
        assert_eq!(device("io2", 10, 5009), None);
        assert!(device("io2", 10, 5010).unwrap().contains("500:1 for io2"));
        assert!(device("io1", 1, 64001).unwrap().contains("50:1"));
        assert!(device("io1", 1000, 99).unwrap().contains("between 100 and 64000"));
        assert_eq!(device("io1", 0, 1), None);
        assert_eq!(device("gp3", 0, 3000), None);
        assert!(device("gp3", 0, 2999).unwrap().contains("3000 and 16000"));
        assert_eq!(device("st1", 1, 1), None);
        assert!(device("io1", -1, i64::MIN).unwrap().contains("50:1"));
        let gp3 = |throughput: i64| {
            wrong(serde_json::json!({"device_name": "d", "volume_type": "gp3", "throughput": throughput}))
        };
        assert_eq!((gp3(125), gp3(1000)), (None, None));
        assert!(gp3(124).is_some() && gp3(1001).is_some());
        assert!(wrong(serde_json::json!({"device_name": "d", "throughput": 200})).is_some());
        let key = |encrypted: serde_json::Value| {
            wrong(serde_json::json!({"device_name": "d", "kms_key_id": "k", "encrypted": encrypted}))
        };
        assert_eq!((key(true.into()), key(serde_json::Value::Null)), (None, None));
        assert!(key(false.into()).is_some());
    }
}
