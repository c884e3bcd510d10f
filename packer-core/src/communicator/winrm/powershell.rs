//! The PowerShell that our side runs in the machine: files in, files out, and whether it answers at all.
//!
//! A command line of Windows has 8191 characters, and a script in it takes nearly three of them for each of its own: they
//! are short. The lines `# conform-…` say in one form what a script does, for servers that only stand in for Windows.

use crate::kit::powershell::encoded;

/// The command that runs a script.
fn command(script: &str) -> String {
    encoded(&format!("$ProgressPreference = 'SilentlyContinue';{script}"))
}

/// What the machine says when its PowerShell answers.
pub(super) const GREETING: &str = "WinRM connected.";

/// Asks for the greeting.
pub(super) fn greeting() -> String {
    command(&format!("echo \"{GREETING}\""))
}

/// A path between double quotes: variables of PowerShell's in it are meant, as in `$env:TEMP/file`.
fn quoted(path: &str) -> String {
    format!("\"{}\"", path.replace('/', "\\").replace('"', "`\""))
}

/// Where an upload goes: refuses a folder, makes the one that the file is in. `$dest_file_path` is the file.
fn destination(path: &str) -> String {
    format!(
        "$ErrorActionPreference = 'Stop'\n\
         $dest_file_path = [System.IO.Path]::GetFullPath({path})\n\
         if (Test-Path -LiteralPath $dest_file_path -PathType Container) {{ [Console]::Error.WriteLine('the destination is a folder'); exit 1 }}\n\
         [void][System.IO.Directory]::CreateDirectory([System.IO.Path]::GetDirectoryName($dest_file_path))\n",
        path = quoted(path)
    )
}

/// What a script prints before the number of bytes and their digest.
pub(super) const RECEIPT: &str = "packer-received";

/// Writes what comes on standard input, lines of base64, to a file. Until all is there it is in a file that Windows removes
/// with whoever has it open, so that nothing is left of an upload that breaks off.
pub(super) fn receive(path: &str, temporary: &str) -> String {
    encoded(&format!(
        "# conform-upload-base64 {path}\n\
         begin {{\n\
         {destination}\
         $file = New-Object System.IO.FileStream((Join-Path $env:TEMP '{temporary}'), 'Create', 'ReadWrite', 'None', 65536, 'DeleteOnClose')\n\
         $hash = [System.Security.Cryptography.SHA256]::Create()\n\
         }}\n\
         process {{\n\
         if ($_) {{ $part = [Convert]::FromBase64String($_); $file.Write($part, 0, $part.Length); [void]$hash.TransformBlock($part, 0, $part.Length, $null, 0) }}\n\
         }}\n\
         end {{\n\
         [void]$hash.TransformFinalBlock((New-Object byte[] 0), 0, 0)\n\
         $file.Position = 0\n\
         $target = [System.IO.File]::Create($dest_file_path)\n\
         $file.CopyTo($target); $target.Close()\n\
         \"{RECEIPT} $($file.Length) $([BitConverter]::ToString($hash.Hash).Replace('-', '').ToLower())\"\n\
         $file.Close()\n\
         }}\n",
        destination = destination(path)
    ))
}

/// Writes many files below a folder: a line that begins with `>` names the next one, the lines behind it are its content;
/// one that begins with `<` names a folder.
pub(super) fn receive_many(folder: &str) -> String {
    encoded(&format!(
        "begin {{\n\
         $ErrorActionPreference = 'Stop'\n\
         $folder = [System.IO.Path]::GetFullPath({folder})\n\
         [void][System.IO.Directory]::CreateDirectory($folder)\n\
         $file = $null; $count = 0\n\
         }}\n\
         process {{\n\
         if ($_ -and '<>'.Contains($_[0])) {{\n\
         if ($file) {{ $file.Close(); $file = $null }}\n\
         $path = Join-Path $folder ([Text.Encoding]::UTF8.GetString([Convert]::FromBase64String($_.Substring(1))))\n\
         if ($_[0] -eq '<') {{ [void][System.IO.Directory]::CreateDirectory($path); return }}\n\
         [void][System.IO.Directory]::CreateDirectory([System.IO.Path]::GetDirectoryName($path))\n\
         $file = [System.IO.File]::Create($path); $count++\n\
         }} elseif ($_) {{ $part = [Convert]::FromBase64String($_); $file.Write($part, 0, $part.Length) }}\n\
         }}\n\
         end {{ if ($file) {{ $file.Close() }}; \"{RECEIPT} $count\" }}\n",
        folder = quoted(folder)
    ))
}

/// Writes what `cmd` has put into a temporary file, as base64, to a file, and removes the temporary one.
pub(super) fn restore(path: &str, temporary: &str) -> String {
    command(&format!(
        "\n$tmp_file_path = [System.IO.Path]::GetFullPath(\"$env:TEMP\\{temporary}\")\n\
         try {{\n\
         {destination}\
         [System.IO.File]::WriteAllBytes($dest_file_path, [Convert]::FromBase64String([System.IO.File]::ReadAllText($tmp_file_path)))\n\
         }} catch {{ [Console]::Error.WriteLine($_.Exception.Message); exit 1 }}\n\
         finally {{ if (Test-Path -LiteralPath $tmp_file_path) {{ [System.IO.File]::Delete($tmp_file_path) }} }}\n",
        destination = destination(path)
    ))
}

/// Removes such a temporary file.
pub(super) fn remove_temporary(temporary: &str) -> String {
    command(&format!(
        "\n$tmp_file_path = [System.IO.Path]::GetFullPath(\"$env:TEMP\\{temporary}\")\n\
         if (Test-Path $tmp_file_path) {{ Remove-Item $tmp_file_path }}\n"
    ))
}

/// Prints a file as lines of base64.
pub(super) fn send(path: &str) -> String {
    command(&format!(
        "\n# conform-download {path}\n\
         $ErrorActionPreference = 'Stop'\n\
         try {{\n\
         $file = New-Object System.IO.FileStream([System.IO.Path]::GetFullPath({quoted}), 'Open', 'Read', 'ReadWrite')\n\
         $part = New-Object byte[] 49152\n\
         while (($count = $file.Read($part, 0, $part.Length)) -gt 0) {{ [Console]::Out.WriteLine([Convert]::ToBase64String($part, 0, $count)) }}\n\
         [Console]::Out.Flush(); $file.Close()\n\
         }} catch {{ [Console]::Error.WriteLine($_.Exception.Message); exit 1 }}\n",
        quoted = quoted(path)
    ))
}

/// The first word of the lines before and behind a folder: how many files and bytes are to come, and how many files came.
pub(super) const FOLDER: &str = "packer-folder";

/// Prints what a path or a pattern names: a line with `<` for a folder, with `>` for a file, whose content follows as lines of
/// base64, with `!` for a folder that is a link and is not followed. Names begin with that of what was found, or behind it.
pub(super) fn send_many(path: &str, contents: bool) -> String {
    command(&format!(
        "\n\
         $ErrorActionPreference = 'Stop'\n\
         $list = New-Object System.Collections.ArrayList; $files = 0; $bytes = 0\n\
         function say($sign, $name) {{ [Console]::Out.WriteLine($sign + [Convert]::ToBase64String([Text.Encoding]::UTF8.GetBytes($name))) }}\n\
         function walk($item, $name, $top) {{\n\
         if ($item -isnot [System.IO.DirectoryInfo]) {{ [void]$list.Add(@('>', $name, $item)); $script:files++; $script:bytes += $item.Length; return }}\n\
         if (!$top -and ($item.Attributes -band 1024)) {{ [void]$list.Add(@('!', $name, $item)); return }}\n\
         if ($name) {{ [void]$list.Add(@('<', $name, $item)); $name += '/' }}\n\
         foreach ($one in $item.GetFileSystemInfos()) {{ walk $one ($name + $one.Name) $false }}\n\
         }}\n\
         try {{\n\
         $path = {path}\n\
         $found = @(if (Test-Path -LiteralPath $path) {{ Get-Item -LiteralPath $path -Force }} else {{ Get-Item -Path $path }})\n\
         if ($found.Count -eq 0) {{ throw 'nothing matches' }}\n\
         foreach ($item in $found) {{ walk $item $(if ({contents} -and $item -is [System.IO.DirectoryInfo]) {{ '' }} else {{ $item.Name }}) $true }}\n\
         [Console]::Out.WriteLine(\"{FOLDER} $files $bytes\")\n\
         $part = New-Object byte[] 49152\n\
         foreach ($one in $list) {{\n\
         say $one[0] $one[1]\n\
         if ($one[0] -ne '>') {{ continue }}\n\
         $file = New-Object System.IO.FileStream($one[2].FullName, 'Open', 'Read', 'ReadWrite')\n\
         while (($count = $file.Read($part, 0, $part.Length)) -gt 0) {{ [Console]::Out.WriteLine([Convert]::ToBase64String($part, 0, $count)) }}\n\
         $file.Close()\n\
         }}\n\
         [Console]::Out.WriteLine(\"{FOLDER} $files\"); [Console]::Out.Flush()\n\
         }} catch {{ [Console]::Error.WriteLine($_.Exception.Message); exit 1 }}\n",
        path = quoted(path),
        contents = if contents { "$true" } else { "$false" },
    ))
}

#[cfg(test)]
mod tests {
    use base64::Engine;
    use base64::engine::general_purpose::STANDARD;

    use super::*;

    /// What a command line holds, and how long it is.
    fn script(command: &str) -> String {
        let word = command.rsplit(' ').next().unwrap();
        let bytes = STANDARD.decode(word).unwrap();
        let units: Vec<u16> = bytes.chunks(2).map(|c| u16::from_le_bytes([c[0], c[1]])).collect();
        String::from_utf16(&units).unwrap()
    }

    #[test]
    fn scripts_fit_into_a_command_line_of_windows() {
        let path = format!("C:/{}/file.txt", "folder/".repeat(25));
        let temporary = format!("winrmcp-{}.tmp", uuid::Uuid::new_v4());
        for command in [
            greeting(),
            receive(&path, &temporary),
            receive_many(&path),
            restore(&path, &temporary),
            remove_temporary(&temporary),
            send(&path),
            send_many(&path, false),
        ] {
            assert!(command.len() <= 8191, "{} characters: {}", command.len(), script(&command));
        }
    }

    #[test]
    fn paths_stay_paths_with_their_variables() {
        assert_eq!(quoted("$env:TEMP/a b.txt"), "\"$env:TEMP\\a b.txt\"");
        assert_eq!(quoted("a\"; exit"), "\"a`\"; exit\"");
        let text = script(&receive("C:/x/y", "t.tmp"));
        assert!(text.starts_with("# conform-upload-base64 C:/x/y\nbegin {\n"), "{text}");
        assert!(text.contains("GetFullPath(\"C:\\x\\y\")"), "{text}");
    }
}
