//! What goes into a box: the artifact's files as the provider wants them, its `metadata.json` and its `Vagrantfile`.

use std::collections::BTreeMap;
use std::fs::{self, File};
use std::path::{Path, PathBuf};

use packer_core::{Artifact, Context, Error, Result};
use serde_json::json;

use super::ova;
use super::provider::Provider;

/// The files of a box and what stands in its metadata.
#[derive(Debug, Default)]
pub(super) struct Contents {
    /// By name, which is also their order.
    files: BTreeMap<String, Source>,
    pub(super) metadata: BTreeMap<String, serde_json::Value>,
    /// The provider's part of the `Vagrantfile`.
    vagrantfile: String,
}

/// Where the bytes of a file come from.
#[derive(Debug, Clone)]
pub(super) enum Source {
    Text(String),
    File(PathBuf),
    /// A file in an archive.
    Part {
        path: PathBuf,
        start: u64,
        size: u64,
    },
}

/// Collects what a provider's box holds of an artifact, and the files that are asked for besides.
pub(super) fn collect(
    cx: &Context,
    provider: Provider,
    include: &[String],
    artifact: &Artifact,
) -> Result<Contents> {
    let mut contents = Contents::default();
    for file in include {
        cx.say(format!("Copying from include: {file}"));
        let failed = |e| Error::user(format!("Error copying include file: {file}\n\n{e}"));
        let path = Path::new(file);
        let found = File::open(path).and_then(|opened| opened.metadata());
        let found = found.map_err(|e| failed(Error::io("open", path, e)))?;
        if !found.is_file() {
            return Err(failed(Error::user(format!("read {file}: it is no file"))));
        }
        contents.insert(base_name(path), Source::File(path.to_owned()));
    }
    let id = quoted(&artifact.id);
    match provider {
        Provider::Libvirt => contents.libvirt(cx, artifact)?,
        Provider::VirtualBox => contents.virtualbox(cx, artifact)?,
        Provider::File | Provider::Vmware | Provider::Lxc => {
            contents.copy(cx, artifact, |path| Some(base_name(path)));
        }
        Provider::Parallels => contents.copy(cx, artifact, in_machine_folder),
        Provider::Hyperv => contents.copy(cx, artifact, |path| Some(in_hyperv_folder(path))),
        Provider::Docker => {
            // As Packer writes it, with tabs.
            contents.vagrantfile = format!(
                "\nVagrant.configure(\"2\") do |config|\n\tconfig.vm.provider :docker do |docker, override|\n\t\t\
                 docker.image = {id}\n\tend\nend\n"
            );
        }
        Provider::Aws => {
            let regions = artifact.id.split(',').filter_map(|image| image.split_once(':'));
            let mut lines: Vec<_> = regions
                .map(|(region, ami)| format!("aws.region_config {}, ami: {}", quoted(region), quoted(ami)))
                .collect();
            if lines.is_empty() {
                return Err(Error::user(format!("{:?} is no list of regions and AMIs", artifact.id)));
            }
            lines.sort();
            contents.configure("aws", &lines);
        }
        Provider::DigitalOcean => {
            let (regions, image) = artifact.id.split_once(':').unwrap_or(("", &artifact.id));
            let region = regions.split(',').next().unwrap_or_default();
            let lines = [format!("digital_ocean.image = {}", quoted(image))].into_iter();
            let region = (!region.is_empty()).then(|| format!("digital_ocean.region = {}", quoted(region)));
            contents.configure("digital_ocean", &lines.chain(region).collect::<Vec<_>>());
        }
        Provider::Scaleway => {
            let (region, image) = artifact.id.split_once(':').unwrap_or(("", &artifact.id));
            let lines = [format!("scaleway.image = {}", quoted(image))].into_iter();
            let region = (!region.is_empty()).then(|| format!("scaleway.region = {}", quoted(region)));
            contents.configure("scaleway", &lines.chain(region).collect::<Vec<_>>());
        }
        Provider::Google => contents.configure("google", &[format!("google.image = {id}")]),
        Provider::Azure => {
            let is_url = artifact.id.starts_with("http");
            let option = if is_url { "vm_vhd_uri" } else { "vm_managed_image_id" };
            contents.configure("azure", &[format!("azure.{option} = {id}")]);
        }
    }
    if provider == Provider::Lxc {
        contents.metadata.insert("version".to_owned(), json!("1.0.0"));
    }
    Ok(contents)
}

impl Contents {
    /// The files in the order of their names.
    pub(super) fn files(&self) -> impl Iterator<Item = (&String, &Source)> {
        self.files.iter()
    }

    /// The files of this computer that are read.
    pub(super) fn inputs(&self) -> impl Iterator<Item = &Path> {
        self.files.values().filter_map(|source| match source {
            Source::Text(_) => None,
            Source::File(path) | Source::Part { path, .. } => Some(path.as_path()),
        })
    }

    /// Adds the metadata, unless a file of that name was included, and the `Vagrantfile`, which ends with `custom`.
    pub(super) fn finish(&mut self, custom: &str) -> Result<()> {
        let metadata = serde_json::to_string(&self.metadata);
        let metadata = metadata.map_err(|e| Error::internal(format!("metadata.json: {e}")))?;
        self.files.entry("metadata.json".to_owned()).or_insert(Source::Text(metadata + "\n"));
        let vagrantfile = format!(
            "\n# The contents below were provided by the Packer Vagrant post-processor\n{}\n\n\
             # The contents below (if any) are custom contents provided by the\n\
             # Packer template during image build.\n{custom}",
            self.vagrantfile
        );
        self.insert("Vagrantfile".to_owned(), Source::Text(vagrantfile));
        Ok(())
    }

    fn insert(&mut self, name: String, source: Source) {
        self.files.insert(name, source);
    }

    /// Adds the artifact's files under what they are called in the box; those that have no name there stay out.
    fn copy(&mut self, cx: &Context, artifact: &Artifact, name: impl Fn(&Path) -> Option<String>) {
        for path in &artifact.files {
            if let Some(name) = name(path) {
                cx.say(format!("Copying: {}", path.display()));
                self.insert(name, Source::File(path.clone()));
            }
        }
    }

    /// The provider's part of the `Vagrantfile`: options of one provider.
    fn configure(&mut self, provider: &str, lines: &[String]) {
        let lines: String = lines.iter().map(|line| format!("    {line}\n")).collect();
        self.vagrantfile = format!(
            "\nVagrant.configure(\"2\") do |config|\n  config.vm.provider :{provider} do |{provider}|\n{lines}  end\nend\n"
        );
    }

    /// Each file whose name begins with that of the machine is a disk.
    fn libvirt(&mut self, cx: &Context, artifact: &Artifact) -> Result<()> {
        let known = |name: &str| {
            let value = artifact.metadata.get(name).and_then(|value| value.as_str());
            let unknown = || format!("The artifact of {} does not say its {name}", artifact.builder_id);
            value.ok_or_else(|| Error::user(format!("{}, as one of qemu does", unknown())))
        };
        let (machine, format, domain) = (known("diskName")?, known("diskType")?, known("domainType")?);
        let mut disks = Vec::new();
        for path in artifact.files.iter().filter(|path| base_name(path).starts_with(machine)) {
            cx.say(format!("Copying from artifact: {}", path.display()));
            let name = format!("box_{}.img", disks.len());
            disks.push(json!({ "format": format, "path": name }));
            self.insert(name, Source::File(path.clone()));
        }
        if disks.is_empty() {
            return Err(Error::user(format!("The artifact has no file whose name begins with {machine:?}")));
        }
        self.metadata.insert("disks".to_owned(), disks.into());
        let driver = match domain {
            "kvm" => "kvm",
            "none" | "tcg" | "hvf" => "qemu",
            other => return Err(Error::user(format!("Unknown libvirt domain type: {other}"))),
        };
        self.configure("libvirt", &[format!("libvirt.driver = {}", quoted(driver))]);
        Ok(())
    }

    /// The appliance and its disks, of which Vagrant wants the description to be `box.ovf`. An archive of them is unpacked.
    fn virtualbox(&mut self, cx: &Context, artifact: &Artifact) -> Result<()> {
        let mut found = Vec::new();
        for path in &artifact.files {
            if has_ending(path, "ova") {
                cx.say(format!("Unpacking OVA: {}", path.display()));
                found.extend(ova::files(path)?);
            } else {
                cx.say(format!("Copying from artifact: {}", path.display()));
                found.push((base_name(path), Source::File(path.clone())));
            }
        }
        let mut description = None;
        for (name, source) in found {
            if has_ending(Path::new(&name), "ovf") {
                cx.say("Renaming the OVF to box.ovf...");
                description = Some(source.clone());
                self.insert("box.ovf".to_owned(), source);
            } else {
                self.insert(name, source);
            }
        }
        let missing = || Error::user("ovf file couldn't be found");
        let mac = ova::mac_address(&description.ok_or_else(missing)?)?;
        self.vagrantfile =
            format!("\nVagrant.configure(\"2\") do |config|\n  config.vm.base_mac = {}\nend\n", quoted(&mac));
        Ok(())
    }
}

fn has_ending(path: &Path, ending: &str) -> bool {
    path.extension().is_some_and(|found| found.eq_ignore_ascii_case(ending))
}

fn base_name(path: &Path) -> String {
    path.file_name().unwrap_or_default().to_string_lossy().into_owned()
}

/// The path from a machine's folder (`x.pvm`) on; what lies elsewhere has none.
fn in_machine_folder(path: &Path) -> Option<String> {
    let names: Vec<_> = path.iter().map(|name| name.to_string_lossy()).collect();
    let folder = names.iter().position(|name| name.ends_with(".pvm"))?;
    Some(names.get(folder..)?.join("/"))
}

/// The path from one of the folders on that Hyper-V exports a machine to.
fn in_hyperv_folder(path: &Path) -> String {
    let folder = path.parent().map(base_name).unwrap_or_default();
    match folder.as_str() {
        "Snapshots" | "Virtual Hard Disks" | "Virtual Machines" => format!("{folder}/{}", base_name(path)),
        _ => base_name(path),
    }
}

/// A text as Ruby reads it.
fn quoted(text: &str) -> String {
    let mut quoted = String::from("\"");
    for c in text.chars() {
        if matches!(c, '"' | '\\' | '#') {
            quoted.push('\\');
        }
        quoted.push(c);
    }
    quoted + "\""
}

/// Reads a file, or the part of one, that is expected to be small.
pub(super) fn read_small(source: &Source, most: u64) -> Result<Vec<u8>> {
    use std::io::{Read, Seek, SeekFrom};
    let (path, start, size) = match source {
        Source::Text(text) => return Ok(text.clone().into_bytes()),
        Source::File(path) => {
            let size = fs::metadata(path).map_err(|e| Error::io("stat", path, e))?.len();
            (path, 0, size)
        }
        Source::Part { path, start, size } => (path, *start, *size),
    };
    if size > most {
        return Err(Error::user(format!("{}: its description has more than {most} bytes", path.display())));
    }
    let mut file = File::open(path).map_err(|e| Error::io("open", path, e))?;
    let mut bytes = Vec::new();
    let read = file.seek(SeekFrom::Start(start)).and_then(|_| file.take(size).read_to_end(&mut bytes));
    read.map(|_| bytes).map_err(|e| Error::io("read", path, e))
}
