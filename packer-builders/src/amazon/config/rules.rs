//! What can be found wrong with the options of the instance before anything runs.

use std::net::IpAddr;
use std::path::Path;

use packer_core::error::os_text;
use packer_core::{Diagnostic, Diagnostics, PrepareContext};

use super::filter::ImageFilter;
use super::run::RunConfig;

impl RunConfig {
    /// Whether it is a spot instance: it has a price, or several types and none.
    pub(in crate::amazon) fn is_spot(&self) -> bool {
        match self.spot_price.as_str() {
            "" => !self.spot_instance_types.is_empty(),
            price => price != "0",
        }
    }

    /// Whether it may use processors without a limit, by either name of the option.
    pub(in crate::amazon) fn has_unlimited_credits(&self) -> bool {
        self.enable_unlimited_credits || self.enable_t2_unlimited
    }

    /// Checks the instance's options, those of the communicator too.
    pub(in crate::amazon) fn check(&self, cx: &PrepareContext, found: &mut Diagnostics) {
        found.append(self.communicator.prepare(cx));
        self.check_entry(found);
        if let Some(options) = &self.metadata_options {
            options.check(found);
        }
        ImageFilter::check_source(&self.source_ami, self.source_ami_filter.as_ref(), found);
        self.check_type(found);
        self.check_spot(found);
        self.check_placement(found);
        self.check_network(found);
        let mut say = |text: &str| found.push(Diagnostic::error(text));
        if !self.user_data_file.is_empty() {
            if !self.user_data.is_empty() {
                say("Only one of user_data or user_data_file can be specified.");
            } else if let Err(e) = Path::new(&self.user_data_file).metadata() {
                say(&format!("user_data_file {} cannot be read: {}", self.user_data_file, os_text(&e)));
            }
        }
        if !matches!(self.shutdown_behavior.as_str(), "" | "stop" | "terminate") {
            say("shutdown_behavior must be 'stop' or 'terminate'");
        }
    }

    /// How the instance is entered.
    fn check_entry(&self, found: &mut Diagnostics) {
        let mut say = |text: String| found.push(Diagnostic::error(text));
        let communicator = &self.communicator;
        let is_set = |text: &Option<String>| text.as_ref().is_some_and(|text| !text.is_empty());
        let (kind, has_key) = (communicator.kind(), is_set(&communicator.ssh_private_key_file));
        let has_password = communicator.winrm_password.as_ref().is_some_and(|password| !password.is_empty());
        if is_set(&communicator.ssh_keypair_name) && !has_key {
            if kind == "winrm" && !has_password {
                say("ssh_private_key_file must be provided to retrieve the winrm password when using ssh_keypair_name."
                    .to_owned());
            } else if !communicator.ssh_agent_auth {
                say("ssh_private_key_file must be provided or ssh_agent_auth enabled when ssh_keypair_name is specified."
                    .to_owned());
            }
        }
        if !matches!(communicator.temporary_key_pair_type.as_deref(), None | Some("" | "rsa" | "ed25519")) {
            say("temporary_key_pair_type requires either rsa or ed25519 as its value".to_owned());
        }
        match self.ssh_interface.as_str() {
            "" | "public_ip" | "private_ip" | "public_dns" | "private_dns" | "ipv6" => {}
            "session_manager" => {
                if kind == "winrm" {
                    say("session_manager connectivity is not supported with the \"winrm\" communicator; please use \"ssh\""
                        .to_owned());
                }
                if self.iam_instance_profile.is_empty()
                    && self.temporary_iam_instance_profile_policy_document.is_none()
                {
                    say("the ssh_interface session_manager needs iam_instance_profile, the name of a profile that lets the \
                         instance be managed, or temporary_iam_instance_profile_policy_document"
                        .to_owned());
                }
            }
            other => say(format!("Unknown interface type: {other}")),
        }
        if !(0..=u16::MAX.into()).contains(&self.session_manager_port) {
            say(format!("session_manager_port must be at most {}", u16::MAX));
        }
    }

    fn check_type(&self, found: &mut Diagnostics) {
        let mut say = |text: String| found.push(Diagnostic::error(text));
        match (self.instance_type.is_empty(), self.spot_instance_types.is_empty()) {
            (true, true) => say("either instance_type or spot_instance_types must be specified".to_owned()),
            (false, false) => {
                say("either instance_type or spot_instance_types must be specified, not both".to_owned());
            }
            _ => {}
        }
        let types = || {
            std::iter::once(&self.instance_type).chain(&self.spot_instance_types).filter(|t| !t.is_empty())
        };
        if self.has_unlimited_credits() {
            if self.is_spot() {
                say("Error: Unlimited credits cannot be used in conjunction with Spot Instances".to_owned());
            }
            for kind in types().filter(|kind| !is_burstable(kind)) {
                say(format!(
                    "Error: Instance Type: {kind} is not within the supported types for Unlimited credits. Supported \
                     instance types are T2, T3, and T4g"
                ));
            }
        }
        if self.enable_nitro_enclave {
            if self.is_spot() {
                say("Error: Nitro Enclave cannot be used in conjunction with Spot Instances".to_owned());
            }
            for kind in types().filter(|kind| is_burstable(kind)) {
                say(format!("Error: Nitro Enclave cannot be used with the burstable instance type {kind}"));
            }
        }
        if self.enable_t2_unlimited {
            found.push(Diagnostic::warning(
                "enable_t2_unlimited is deprecated please use enable_unlimited_credits. In future versions of Packer, \
                 inclusion of enable_t2_unlimited will error your builds.",
            ));
        }
    }

    fn check_spot(&self, found: &mut Diagnostics) {
        let mut say = |text: String| found.push(Diagnostic::error(text));
        if self.block_duration_minutes % 60 != 0 {
            say("block_duration_minutes must be multiple of 60".to_owned());
        }
        if !self.is_spot() {
            for (name, has_any) in [
                ("spot_tags", !self.all_spot_tags().is_empty()),
                ("fleet_tags", !self.all_fleet_tags().is_empty()),
            ] {
                if has_any {
                    say(format!("{name} should not be set when not requesting a spot instance"));
                }
            }
        }
        let strategy = self.spot_allocation_strategy.as_str();
        if !strategy.is_empty() && !STRATEGIES.contains(&strategy) {
            say(format!(
                "invalid spot allocation strategy {strategy:?}, valid values are either lowest-price, \
                 diversified,capacity-optimized, capacity-optimized-prioritized, price-capacity-optimized"
            ));
        }
        if !self.spot_price_auto_product.is_empty() {
            found.push(Diagnostic::warning(
                "spot_price_auto_product is deprecated and no longer necessary for Packer builds. In future versions of \
                 Packer, inclusion of spot_price_auto_product will error your builds. Please take a look at our current \
                 documentation to understand how Packer requests Spot instances.",
            ));
        }
    }

    fn check_placement(&self, found: &mut Diagnostics) {
        self.placement.clone().unwrap_or_default().check(&self.tenancy, found);
        let mut say = |text: &str| found.push(Diagnostic::error(text));
        let preference = self.capacity_reservation_preference.as_str();
        let targets = [&self.capacity_reservation_id, &self.capacity_reservation_group_arn];
        let given = targets.into_iter().filter(|target| !target.is_empty()).count();
        if !matches!(preference, "" | "none" | "open") {
            say("capacity_reservation_preference must be 'none' or 'open'");
        }
        if given == 2 {
            say(
                "capacity_reservation_id and capacity_reservation_group_arn are mutually exclusive, only one should be used",
            );
        }
        if given > 0 && !preference.is_empty() {
            say(
                "capacity_reservation_id, capacity_reservation_group_arn and capacity_reservation_preference are mutually \
                 exclusive, only one should be set",
            );
        }
    }

    fn check_network(&self, found: &mut Diagnostics) {
        let mut say = |text: &str| found.push(Diagnostic::error(text));
        if !self.security_group_id.is_empty() && !self.security_group_ids.is_empty() {
            say("Only one of security_group_id or security_group_ids can be specified.");
        }
        for network in &self.temporary_security_group_source_cidrs {
            if !is_network(network) {
                say(&format!(
                    "Error parsing CIDR in temporary_security_group_source_cidrs: invalid CIDR address: {network}"
                ));
            }
        }
    }
}

const STRATEGIES: [&str; 5] = [
    "lowest-price",
    "diversified",
    "capacity-optimized",
    "capacity-optimized-prioritized",
    "price-capacity-optimized",
];

/// Whether a type has only a share of its processors, and credits for more.
pub(in crate::amazon) fn is_burstable(kind: &str) -> bool {
    matches!(kind.split_once('.'), Some(("t2" | "t3" | "t3a" | "t4g", _)))
}

/// Whether a text is an address and the length of a prefix of it, as `10.0.0.0/8`.
fn is_network(text: &str) -> bool {
    let Some((address, length)) = text.split_once('/') else { return false };
    let most = match address.parse() {
        Ok(IpAddr::V4(_)) => 32,
        Ok(IpAddr::V6(_)) => 128,
        Err(_) => return false,
    };
    length.bytes().all(|c| c.is_ascii_digit()) && length.parse::<u8>().is_ok_and(|length| length <= most)
}
