//! Scripts for the PowerShell of a Windows machine.

use base64::Engine;
use base64::engine::general_purpose::STANDARD;

/// The command line that runs a script in Windows PowerShell, whatever characters it has, without profiles and questions. A
/// command line of Windows has at most 8191 characters: the script may have about 2900.
///
/// ```
/// let command = packer_core::kit::powershell::encoded("Get-Date");
/// assert!(command.starts_with("powershell.exe ") && command.ends_with(" -EncodedCommand RwBlAHQALQBEAGEAdABlAA=="));
/// ```
pub fn encoded(script: &str) -> String {
    let bytes: Vec<u8> = script.encode_utf16().flat_map(u16::to_le_bytes).collect();
    let text = STANDARD.encode(bytes);
    format!("powershell.exe -NoProfile -NonInteractive -OutputFormat Text -EncodedCommand {text}")
}
