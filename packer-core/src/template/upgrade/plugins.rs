//! What is known of components that plugins bring: where the plugins come from, and what of their settings moved.

use super::document::Object;

/// The plugins that components of well-known types belong to, by what the types start with.
const PLUGINS: [(&str, &str); 10] = [
    ("amazon", "github.com/hashicorp/amazon"),
    ("ansible", "github.com/hashicorp/ansible"),
    ("azure", "github.com/hashicorp/azure"),
    ("docker", "github.com/hashicorp/docker"),
    ("googlecompute", "github.com/hashicorp/googlecompute"),
    ("qemu", "github.com/hashicorp/qemu"),
    ("vagrant", "github.com/hashicorp/vagrant"),
    ("virtualbox", "github.com/hashicorp/virtualbox"),
    ("vmware", "github.com/hashicorp/vmware"),
    ("vsphere", "github.com/hashicorp/vsphere"),
];

/// Name and source of the plugin that components of a type belong to.
pub(super) fn of(kind: &str) -> Option<(&'static str, &'static str)> {
    PLUGINS.iter().copied().find(|(plugin, _)| kind.starts_with(plugin))
}

/// Settings that say how to reach the cloud: a data source needs them as much as the builder does.
const ACCESS: [&str; 16] = [
    "access_key",
    "assume_role",
    "aws_polling",
    "custom_endpoint_ec2",
    "decode_authorization_messages",
    "insecure_skip_tls_verify",
    "max_retries",
    "mfa_code",
    "profile",
    "region",
    "secret_key",
    "shared_credentials_file",
    "skip_credential_validation",
    "skip_metadata_api_check",
    "token",
    "vault_aws_engine",
];

/// Takes the filter that finds the image out of an Amazon builder: what the data source `amazon-ami` is told.
pub(super) fn image_filter(kind: &str, config: &mut Object) -> Option<Object> {
    if !kind.starts_with("amazon-") || !config.get("source_ami_filter")?.is_object() {
        return None;
    }
    let mut filter = config.shift_remove("source_ami_filter")?.as_object()?.clone();
    // The filter counts where both are there.
    config.shift_remove("source_ami");
    for name in ACCESS {
        if let Some(value) = config.get(name) {
            filter.entry(name).or_insert_with(|| value.clone());
        }
    }
    Some(filter)
}
