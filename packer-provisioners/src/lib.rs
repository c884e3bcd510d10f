//! Provisioners of Packer's own. Each is a cargo feature of its name.
//!
//! ```
//! let mut registry = packer_core::Registry::new();
//! packer_provisioners::register(&mut registry);
//! assert!(registry.get_provisioner("shell-local").is_some());
//! ```

use packer_core::Registry;

#[cfg(feature = "ansible")]
mod ansible;
#[cfg(feature = "ansible-local")]
mod ansible_local;
#[cfg(feature = "breakpoint")]
mod breakpoint;
#[cfg(feature = "file")]
mod file;
#[cfg(any(feature = "ansible", feature = "ansible-local"))]
mod plays;
#[cfg(feature = "powershell")]
mod powershell;
#[cfg(any(feature = "powershell", feature = "shell", feature = "windows-shell"))]
mod scripts;
#[cfg(feature = "shell")]
mod shell;
#[cfg(feature = "shell-local")]
mod shell_local;
#[cfg(feature = "sleep")]
mod sleep;
#[cfg(any(
    feature = "powershell",
    feature = "shell",
    feature = "windows-restart",
    feature = "windows-shell"
))]
mod tries;
#[cfg(any(feature = "powershell", feature = "windows-shell"))]
mod windows;
#[cfg(feature = "windows-restart")]
mod windows_restart;
#[cfg(feature = "windows-shell")]
mod windows_shell;

#[cfg(feature = "ansible")]
pub use ansible::Ansible;
#[cfg(feature = "ansible-local")]
pub use ansible_local::AnsibleLocal;
#[cfg(feature = "breakpoint")]
pub use breakpoint::Breakpoint;
#[cfg(feature = "file")]
pub use file::{FileProvisioner, Upload};
#[cfg(feature = "shell-local")]
pub use packer_core::kit::shell::LocalShell;
#[cfg(feature = "powershell")]
pub use powershell::{ExecutionPolicy, PowerShell};
#[cfg(feature = "shell")]
pub use shell::Shell;
#[cfg(feature = "shell-local")]
pub use shell_local::ShellLocal;
#[cfg(feature = "sleep")]
pub use sleep::Sleep;
#[cfg(feature = "windows-restart")]
pub use windows_restart::WindowsRestart;
#[cfg(feature = "windows-shell")]
pub use windows_shell::WindowsShell;

/// Registers every provisioner that the crate's features hold, under the names of Packer's templates.
pub fn register(registry: &mut Registry) {
    #[cfg(feature = "ansible")]
    registry.provisioner::<Ansible>("ansible");
    #[cfg(feature = "ansible-local")]
    registry.provisioner::<AnsibleLocal>("ansible-local");
    #[cfg(feature = "breakpoint")]
    registry.provisioner::<Breakpoint>("breakpoint");
    #[cfg(feature = "file")]
    registry.provisioner::<FileProvisioner>("file");
    #[cfg(feature = "shell-local")]
    registry.provisioner::<ShellLocal>("shell-local");
    #[cfg(feature = "shell")]
    registry.provisioner::<Shell>("shell");
    #[cfg(feature = "powershell")]
    registry.provisioner::<PowerShell>("powershell");
    #[cfg(feature = "sleep")]
    registry.provisioner::<Sleep>("sleep");
    #[cfg(feature = "windows-restart")]
    registry.provisioner::<WindowsRestart>("windows-restart");
    #[cfg(feature = "windows-shell")]
    registry.provisioner::<WindowsShell>("windows-shell");
    let _ = registry; // without any feature there is nothing to register
}
