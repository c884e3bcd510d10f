//! Machines on a bridge of this computer: which address the bridge has, and which one the machine got.

use std::net::{IpAddr, Ipv4Addr};
use std::time::Duration;

use packer_core::{Context, Error, Result};
use serde_json::{Value, json};

use super::qmp::Qmp;

/// How often the computer's neighbours are looked at: nothing tells of a new one.
const LOOK: Duration = Duration::from_secs(1);

/// The first IPv4 address of a bridge.
pub(super) fn address_of(bridge: &str) -> Result<Ipv4Addr> {
    let failed = |why: &str| Error::user(format!("Error getting the bridge {bridge} interface: {why}"));
    let all = if_addrs::get_if_addrs().map_err(|e| failed(&e.to_string()))?;
    let mut there = false;
    for interface in all.iter().filter(|interface| interface.name == bridge) {
        there = true;
        if let IpAddr::V4(address) = interface.ip() {
            return Ok(address);
        }
    }
    // An interface without any address is not in the list.
    there |= std::path::Path::new("/sys/class/net").join(bridge).exists();
    Err(failed(if there { "it has no IPv4 address" } else { "route ip+net: no such network interface" }))
}

/// Waits until the machine's card has an address that this computer knows of.
pub(super) async fn machine_address(
    cx: &Context,
    bridge: &str,
    qmp: &Qmp,
    limit: Duration,
) -> Result<IpAddr> {
    cx.say("Waiting for the machine to get an address on the bridge...");
    let mac = card_of(qmp).await?;
    let waiting = async {
        loop {
            let table = tokio::fs::read_to_string("/proc/net/arp").await;
            let table = table.map_err(|e| Error::io("read", "/proc/net/arp", e))?;
            if let Some(address) = neighbour(&table, bridge, &mac) {
                return Ok(address);
            }
            cx.sleep(LOOK).await?;
        }
    };
    tokio::time::timeout(limit, waiting).await.unwrap_or_else(|_| {
        Err(Error::network(format!("the machine (card {mac}) got no address on the bridge {bridge}")))
    })
}

/// The hardware address of the card that is the other end of `user.0`.
async fn card_of(qmp: &Qmp) -> Result<String> {
    for place in ["/machine/peripheral-anon", "/machine/peripheral"] {
        let devices = qmp.ask("qom-list", json!({ "path": place })).await?;
        for device in devices.as_array().into_iter().flatten() {
            let Some(name) = device.get("name").and_then(Value::as_str) else { continue };
            let path = format!("{place}/{name}");
            let get = async |property: &str| {
                qmp.ask("qom-get", json!({ "path": path, "property": property })).await.ok()
            };
            if get("netdev").await.is_some_and(|netdev| netdev == "user.0")
                && let Some(Value::String(mac)) = get("mac").await
            {
                return Ok(mac);
            }
        }
    }
    Err(Error::provider("QEMU names no network card of the machine"))
}

/// The address of a card in the text of `/proc/net/arp`.
fn neighbour(table: &str, bridge: &str, mac: &str) -> Option<IpAddr> {
    /// The entry is complete.
    const COMPLETE: u32 = 2;
    table.lines().skip(1).find_map(|line| {
        let mut words = line.split_ascii_whitespace();
        let (address, _, flags, card) = (words.next()?, words.next()?, words.next()?, words.next()?);
        let device = words.nth(1)?;
        let flags = u32::from_str_radix(flags.trim_start_matches("0x"), 16).ok()?;
        let its = device == bridge && card.eq_ignore_ascii_case(mac) && flags & COMPLETE != 0;
        its.then(|| address.parse().ok()).flatten()
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_a_complete_entry_of_the_bridge_counts() {
        let table = "\
IP address       HW type     Flags       HW address            Mask     Device
10.1.0.5         0x1         0x0         52:54:00:12:34:56     *        br0
10.1.0.6         0x1         0x2         52:54:00:12:34:56     *        br1
10.1.0.7         0x1         0x2         52:54:00:AB:34:56     *        br0
";
        assert_eq!(neighbour(table, "br0", "52:54:00:12:34:56"), None);
        assert_eq!(neighbour(table, "br0", "52:54:00:ab:34:56"), Some("10.1.0.7".parse().unwrap()));
        assert_eq!(neighbour("", "br0", "x"), None);
        assert!(address_of("nobridge0").unwrap_err().message().contains("no such network interface"));
        assert_eq!(address_of("lo").unwrap(), Ipv4Addr::LOCALHOST);
    }
}
