//! What is mounted into the image and put there for the time being, and how it is taken out again: after a build, and by a later
//! process from the ledger alone.

use std::path::{Path, PathBuf};

use packer_core::{Context, Error, ExitStatus, Resource, Result};
use serde_json::json;

use super::commands::{Commands, word};
use super::paths;
use crate::amazon::AmazonChroot;
use crate::amazon::job::Job;

/// Something that is mounted, by where it is.
pub(super) const MOUNT: &str = "mount";
/// A file of this computer that is in the image for the time being, by where it is.
pub(super) const COPY: &str = "copied file";

/// What is mounted unless the template says otherwise.
const USUAL: [[&str; 3]; 5] = [
    ["proc", "proc", "/proc"],
    ["sysfs", "sysfs", "/sys"],
    ["bind", "/dev", "/dev"],
    ["devpts", "devpts", "/dev/pts"],
    ["binfmt_misc", "binfmt_misc", "/proc/sys/fs/binfmt_misc"],
];

/// The image as a folder of this computer, being filled.
pub(super) struct Tree<'a> {
    pub(super) job: &'a Job<'a>,
    pub(super) builder: &'a AmazonChroot,
    pub(super) commands: &'a Commands,
    /// The folder.
    pub(super) root: &'a Path,
    /// What is in there; what is at the end is taken out first.
    pub(super) made: Vec<Resource>,
}

impl Tree<'_> {
    fn resource(&self, kind: &str, path: &Path) -> Resource {
        let (job, wrapper) = (self.job, &self.commands.wrapper);
        let is_secret = job.cx.secrets().scrub(wrapper) != wrapper.as_str();
        let details = json!({ "is_root": path == self.root, "wrapper_is_secret": is_secret });
        let mut resource = job.resource(kind, &path.to_string_lossy(), &job.ec2, details);
        if !is_secret {
            resource.config["command_wrapper"] = wrapper.as_str().into();
        }
        resource
    }

    async fn own(&mut self, kind: &str, path: &Path, command: &str) -> Result<()> {
        let resource = self.resource(kind, path);
        // Files are taken out in the order in which they came, mounts the other way round.
        let copies = self.made.iter().filter(|made| made.kind == COPY).count();
        self.made.insert(self.made.len() - copies, resource.clone());
        let commands = self.commands;
        self.job.cx.own(resource, commands.must(self.job.cx, command)).await
    }

    /// Mounts the volume.
    pub(super) async fn mount_root(&mut self, device: &str) -> Result<()> {
        self.job.cx.say("Mounting the root device...");
        let root = self.root;
        std::fs::create_dir_all(root).map_err(|e| Error::io("mkdir", root, e))?;
        let options: Vec<String> =
            self.builder.mount_options.iter().map(|option| format!("-o {option}")).collect();
        let command = format!("mount {} {} {}", options.join(" "), word(device), shown(root));
        let mounted = self.own(MOUNT, root, &command).await;
        mounted.map_err(|e| e.context("Error mounting root volume"))
    }

    /// Mounts what of this computer is seen in the image.
    pub(super) async fn mount_more(&mut self) -> Result<()> {
        let usual =
            || USUAL.iter().map(|mount| mount.iter().map(|part| (*part).to_owned()).collect()).collect();
        let mounts: Vec<Vec<String>> = match &self.builder.chroot_mounts {
            none if none.is_empty() => usual(),
            given => given.clone(),
        };
        self.job.cx.say("Mounting additional paths within the chroot...");
        for mount in &mounts {
            let [kind, device, place] = mount.as_slice() else { continue };
            let path = self.place(place)?;
            std::fs::create_dir_all(&path).map_err(|e| Error::io("mkdir", &path, e))?;
            self.job.cx.say(format!("Mounting: {place}"));
            let how = if kind == "bind" { "--bind".to_owned() } else { format!("-t {}", word(kind)) };
            let command = format!("mount {how} {} {}", word(device), shown(&path));
            self.own(MOUNT, &path, &command).await.map_err(|e| e.context("Error mounting"))?;
        }
        Ok(())
    }

    /// Copies files of this computer into the image.
    pub(super) async fn copy_files(&mut self) -> Result<()> {
        let usual =
            || if self.builder.from_scratch { Vec::new() } else { vec!["/etc/resolv.conf".to_owned()] };
        let files = self.builder.copy_files.clone().unwrap_or_else(usual);
        if files.is_empty() {
            return Ok(());
        }
        self.job.cx.say("Copying files from host to chroot...");
        for file in &files {
            self.job.cx.say(file.as_str());
            let path = Path::new(file);
            let to = paths::beside(self.root, path).map_err(|e| Error::io("open", path, e))?;
            let command = format!("cp --remove-destination {} {}", word(file), shown(&to));
            self.own(COPY, &to, &command).await.map_err(|e| e.context("Error copying file"))?;
        }
        Ok(())
    }

    fn place(&self, path: &str) -> Result<PathBuf> {
        let path = Path::new(path);
        paths::inside(self.root, path).map_err(|e| Error::io("open", path, e))
    }
}

fn shown(path: &Path) -> String {
    word(&path.to_string_lossy())
}

/// Takes out what is mounted or was copied. `is_there` says that it is known to be there, so that a command that fails is no sign
/// that nothing is.
pub(super) async fn take_out(
    cx: &Context,
    commands: &Commands,
    resource: &Resource,
    is_there: bool,
) -> Result<()> {
    let path = Path::new(&resource.name);
    if resource.details["wrapper_is_secret"] == true && commands.wrapper.is_empty() {
        return Err(Error::user(format!(
            "{resource} can only be released with the template's command_wrapper, which is a secret"
        )));
    }
    if resource.kind == COPY {
        let removed = commands.must(cx, &format!("rm -f {}", shown(path))).await;
        return removed.map_err(|e| e.context("Error removing a copied file"));
    }
    let is_root = resource.details["is_root"] == true;
    if is_root {
        cx.say("Unmounting the root device...");
    } else {
        let listed = commands.run(cx, &format!("grep {} /proc/mounts", shown(path))).await?;
        if listed.status == ExitStatus::Code(1) {
            return Ok(());
        }
        listed.success().map_err(|e| e.context("Error unmounting device"))?;
    }
    let unmounted = commands.must(cx, &format!("umount {}", shown(path))).await;
    if let Err(error) = unmounted
        && (is_there || is_mounted(path))
    {
        let what = if is_root { "Error unmounting root device" } else { "Error unmounting device" };
        return Err(error.context(what));
    }
    if is_root {
        // The folder may be the user's, with something in it: then it stays.
        let _ = std::fs::remove_dir(path);
    }
    Ok(())
}

/// Whether something is mounted there, as far as this process sees.
fn is_mounted(path: &Path) -> bool {
    let Ok(mounts) = std::fs::read_to_string("/proc/self/mountinfo") else { return true };
    let escaped = path.to_string_lossy().replace('\\', "\\134").replace(' ', "\\040").replace('\t', "\\011");
    mounts.lines().any(|line| line.split(' ').nth(4) == Some(escaped.as_str()))
}

#[cfg(test)]
mod tests {
    use super::*;
    use packer_core::testing::Bench;

    fn recorded(bench: &Bench) -> (Commands, PathBuf) {
        let file = bench.folder().join("commands");
        (Commands { wrapper: format!("echo '{{{{.Command}}}}' >> {}", file.display()) }, file)
    }

    #[tokio::test]
    async fn what_was_mounted_is_unmounted() {
        let bench = Bench::new();
        let (commands, file) = recorded(&bench);
        let details = |is_root: bool| json!({ "is_root": is_root });
        let root = bench.folder().join("xvdf");
        std::fs::create_dir(&root).unwrap();
        let proc = Resource::new(MOUNT, root.join("proc").to_string_lossy()).with_details(details(false));
        take_out(bench.context(), &commands, &proc, true).await.unwrap();
        let copy = Resource::new(COPY, "/m/a b").with_details(details(false));
        take_out(bench.context(), &commands, &copy, true).await.unwrap();
        let mount = Resource::new(MOUNT, root.to_string_lossy()).with_details(details(true));
        take_out(bench.context(), &commands, &mount, true).await.unwrap();
        let at = root.display();
        let expected =
            format!("grep {at}/proc /proc/mounts\numount {at}/proc\nrm -f \"/m/a b\"\numount {at}\n");
        assert_eq!(std::fs::read_to_string(file).unwrap(), expected);
        assert!(!root.exists());
    }

    #[tokio::test]
    async fn what_is_not_mounted_needs_no_unmounting() {
        let bench = Bench::new();
        let plain = Commands { wrapper: "test '{{.Command}}' = ''".to_owned() };
        let mount = Resource::new(MOUNT, "/no/such/mount").with_details(json!({ "is_root": true }));
        take_out(bench.context(), &plain, &mount, false).await.unwrap();
        assert!(take_out(bench.context(), &plain, &mount, true).await.is_err());
        assert!(is_mounted(Path::new("/")) && !is_mounted(bench.folder()));
    }

    #[tokio::test]
    async fn a_secret_wrapper_is_asked_for() {
        let bench = Bench::new();
        let none = Commands { wrapper: String::new() };
        let mount = Resource::new(MOUNT, "/m").with_details(json!({ "wrapper_is_secret": true }));
        let refused = take_out(bench.context(), &none, &mount, false).await.unwrap_err();
        assert!(refused.to_string().contains("command_wrapper"), "{refused}");
    }
}
