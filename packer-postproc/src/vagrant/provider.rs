//! Vagrant's providers: which artifact is for which, and what they are called.

/// What runs a box.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Provider {
    Hyperv,
    Lxc,
    Azure,
    Docker,
    DigitalOcean,
    File,
    Aws,
    VirtualBox,
    Scaleway,
    Parallels,
    Libvirt,
    Vmware,
    Google,
}

impl Provider {
    pub(super) const ALL: [Self; 13] = [
        Self::Hyperv,
        Self::Lxc,
        Self::Azure,
        Self::Docker,
        Self::DigitalOcean,
        Self::File,
        Self::Aws,
        Self::VirtualBox,
        Self::Scaleway,
        Self::Parallels,
        Self::Libvirt,
        Self::Vmware,
        Self::Google,
    ];

    /// Which one an artifact is for, by what made it.
    pub(super) fn of(builder_id: &str) -> Option<Self> {
        Some(match builder_id {
            "mitchellh.amazonebs" | "mitchellh.amazon.instance" => Self::Aws,
            "mitchellh.virtualbox" => Self::VirtualBox,
            "vmware.desktop" | "mitchellh.vmware" | "mitchellh.vmware-esx" => Self::Vmware,
            "pearkes.digitalocean" => Self::DigitalOcean,
            "packer.googlecompute" => Self::Google,
            "hashicorp.scaleway" => Self::Scaleway,
            "packer.parallels" => Self::Parallels,
            "MSOpenTech.hyperv" => Self::Hyperv,
            "transcend.qemu" => Self::Libvirt,
            "ustream.lxc" => Self::Lxc,
            "Azure.ResourceManagement.VMImage" => Self::Azure,
            "packer.post-processor.docker-import"
            | "packer.post-processor.docker-tag"
            | "packer.post-processor.docker-push" => Self::Docker,
            "packer.file" => Self::File,
            _ => return None,
        })
    }

    /// The one of this name in templates.
    pub(super) fn named(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|provider| provider.name() == name)
    }

    /// What it is called in templates and output.
    pub(super) fn name(self) -> &'static str {
        match self {
            Self::Hyperv => "hyperv",
            Self::Lxc => "lxc",
            Self::Azure => "azure",
            Self::Docker => "docker",
            Self::DigitalOcean => "digitalocean",
            Self::File => "file",
            Self::Aws => "aws",
            Self::VirtualBox => "virtualbox",
            Self::Scaleway => "scaleway",
            Self::Parallels => "parallels",
            Self::Libvirt => "libvirt",
            Self::Vmware => "vmware",
            Self::Google => "google",
        }
    }

    /// What Vagrant calls it in the box's metadata.
    pub(super) fn in_metadata(self) -> &'static str {
        match self {
            Self::DigitalOcean => "digital_ocean",
            Self::Vmware => "vmware_desktop",
            other => other.name(),
        }
    }

    /// Whether a box only names what was made, so that it must stay.
    pub(super) fn keeps_input(self) -> bool {
        matches!(self, Self::Aws | Self::Azure | Self::DigitalOcean | Self::Google | Self::Scaleway)
    }
}
