//! A small root file system with a shell, for images of tests.

use std::os::unix::fs::{PermissionsExt, chown};
use std::path::Path;
use std::process::Command;

/// Fills a folder with `busybox` under all its names, the users `root` and `app` (1000), and the folders that a system has.
///
/// `busybox` is the program's path (see [`require`](super::require)); it must need no libraries. Only root can give the
/// home folder to its user; for anybody else it stays theirs.
///
/// # Panics
/// Where something cannot be written.
pub fn fill(root: &Path, busybox: &Path) {
    for folder in ["bin", "etc", "root", "tmp", "home/app", "proc", "sys", "dev"] {
        std::fs::create_dir_all(root.join(folder)).expect("a folder of the image");
    }
    std::fs::copy(busybox, root.join("bin/busybox")).expect("busybox is copied");
    let list = Command::new(busybox).arg("--list").output().expect("busybox --list");
    for name in String::from_utf8_lossy(&list.stdout).lines().filter(|name| *name != "busybox") {
        let _ = std::fs::hard_link(root.join("bin/busybox"), root.join("bin").join(name));
    }
    let text = "root:x:0:0:root:/root:/bin/sh\napp:x:1000:1000:app:/home/app:/bin/sh\n";
    std::fs::write(root.join("etc/passwd"), text).expect("the image's users");
    std::fs::write(root.join("etc/group"), "root:x:0:\napp:x:1000:\n").expect("the image's groups");
    std::fs::set_permissions(root.join("tmp"), PermissionsExt::from_mode(0o1777)).expect("chmod 1777 tmp");
    let _ = chown(root.join("home/app"), Some(1000), Some(1000));
}
