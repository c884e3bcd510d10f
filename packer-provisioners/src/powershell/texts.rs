//! The scripts around what the user wrote.

use crate::windows::ELEVATED;

/// Makes a value safe between double quotes of PowerShell.
pub(super) fn escape(value: &str) -> String {
    let mut text = String::with_capacity(value.len());
    for c in value.chars() {
        if matches!(c, '`' | '$' | '"' | '\'') {
            text.push('`');
        }
        text.push(c);
    }
    text
}

/// A script of these lines: an exception gives the exit code 1, and the exit code of the last program counts.
pub(super) fn inline(lines: &[String], variables: &str, debug: i64) -> String {
    let mut text =
        "if (Test-Path Variable:ProgressPreference) { $ProgressPreference = 'SilentlyContinue' }\n"
            .to_owned();
    if debug != 0 {
        text.push_str(&format!("Set-PsDebug -Trace {debug}\n"));
    }
    text.push_str("$exitCode = 0\ntry {\n\t");
    text.push_str(variables);
    text.push_str("\n\t");
    for line in lines {
        text.push_str(line);
        text.push_str("\n\t");
    }
    text.push_str(
        "$exitCode = 0\n\
         } catch {\n\
         \t$exitCode = 1\n\
         \tWrite-Error \"An error occurred: $_\" -ErrorAction Continue\n\
         }\n\
         if ((Test-Path Variable:LASTEXITCODE) -and ($LASTEXITCODE -ne $null) -and ($LASTEXITCODE -ne 0)) {\n\
         \t$exitCode = $LASTEXITCODE\n\
         }\n\
         exit $exitCode\n",
    );
    text
}

/// A script that removes files, the last of which is its own.
pub(super) fn cleanup<'a>(files: impl IntoIterator<Item = &'a str>) -> String {
    let word = |path: &str| match path.contains([' ', '\'', '(', ')', '&', ';']) {
        true => format!("'{}'", path.replace('\'', "''")),
        false => path.to_owned(),
    };
    let line = |path: &str| {
        let path = word(path);
        format!("if (Test-Path {path}) {{ Remove-Item {path} }}\n")
    };
    files.into_iter().map(line).collect()
}

/// A command as another user, by a scheduled task.
pub(super) struct Elevated {
    /// The script that makes, runs and removes the task.
    pub(super) script: String,
    /// Where it goes in the machine.
    pub(super) path: String,
}

impl Elevated {
    /// The task prints to a file, of which the script shows what is new. It has the rights of an administrator, as far as
    /// the user has them, and no limit of time.
    pub(super) fn new(command: &str, user: &str, password: &str) -> Self {
        let id = uuid::Uuid::new_v4();
        let (user, password) = (escape(user), escape(password));
        let script = format!(
            r#"$user = "{user}"
$password = "{password}"
$log = "$env:SystemRoot\Temp\packer-{id}.out"
$xml = @"
<?xml version="1.0" encoding="UTF-16"?>
<Task version="1.2" xmlns="http://schemas.microsoft.com/windows/2004/02/mit/task">
  <RegistrationInfo><Description>packer-{id}</Description></RegistrationInfo>
  <Principals>
    <Principal id="Author"><UserId>{user_xml}</UserId><LogonType>Password</LogonType><RunLevel>HighestAvailable</RunLevel></Principal>
  </Principals>
"@ + @'

  <Settings>
    <MultipleInstancesPolicy>IgnoreNew</MultipleInstancesPolicy>
    <DisallowStartIfOnBatteries>false</DisallowStartIfOnBatteries>
    <StopIfGoingOnBatteries>false</StopIfGoingOnBatteries>
    <AllowHardTerminate>true</AllowHardTerminate>
    <StartWhenAvailable>false</StartWhenAvailable>
    <RunOnlyIfNetworkAvailable>false</RunOnlyIfNetworkAvailable>
    <AllowStartOnDemand>true</AllowStartOnDemand>
    <Enabled>true</Enabled>
    <Hidden>false</Hidden>
    <RunOnlyIfIdle>false</RunOnlyIfIdle>
    <WakeToRun>false</WakeToRun>
    <ExecutionTimeLimit>PT0S</ExecutionTimeLimit>
    <Priority>4</Priority>
  </Settings>
  <Actions Context="Author">
    <Exec>
      <Command>cmd</Command>
      <Arguments>/c {command_xml} &gt; %SYSTEMROOT%\Temp\packer-{id}.out 2&gt;&amp;1</Arguments>
    </Exec>
  </Actions>
</Task>
'@
$logon = 1
if ($password.Length -eq 0) {{
  $logon = 5
  $password = $null
}}
$service = New-Object -ComObject Schedule.Service
$service.Connect()
$folder = $service.GetFolder('\')
try {{
  $task = $folder.RegisterTask('packer-{id}', $xml, 6, $user, $password, $logon, $null)
  [void]$task.Run($null)
}} catch {{
  [Console]::Error.WriteLine("No task can be run as $user (elevated_user, elevated_password): $($_.Exception.Message)")
  if ($task) {{ $folder.DeleteTask('packer-{id}', 0) }}
  exit 1
}}
$tries = 0
while ($task.State -ne 4 -and $task.LastTaskResult -eq 267011 -and $tries -lt 100) {{
  Start-Sleep -Milliseconds 100
  $tries++
}}
$shown = 0
function Show-Output {{
  if (Test-Path $log) {{
    foreach ($line in @(Get-Content $log | Select-Object -Skip $script:shown)) {{
      $script:shown++
      Write-Host $line
    }}
  }}
}}
do {{
  Start-Sleep -Milliseconds 100
  Show-Output
}} while ($task.State -ne 3)
Show-Output
$result = $task.LastTaskResult
if (Test-Path $log) {{ Remove-Item $log -Force -ErrorAction SilentlyContinue }}
$folder.DeleteTask('packer-{id}', 0)
[void][System.Runtime.InteropServices.Marshal]::ReleaseComObject($service)
exit $result
"#,
            user_xml = xml(&user),
            command_xml = xml(command),
        );
        Self { script, path: format!("{ELEVATED}{id}.ps1") }
    }

    /// The command that runs the script.
    pub(super) fn command(&self) -> String {
        format!("powershell -executionpolicy bypass -file \"{}\"", self.path)
    }
}

/// A text as XML has it.
fn xml(text: &str) -> String {
    let mut escaped = String::with_capacity(text.len());
    for c in text.chars() {
        match c {
            '&' => escaped.push_str("&amp;"),
            '<' => escaped.push_str("&lt;"),
            '>' => escaped.push_str("&gt;"),
            '"' => escaped.push_str("&quot;"),
            '\'' => escaped.push_str("&apos;"),
            c => escaped.push(c),
        }
    }
    escaped
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn values_stay_values() {
        assert_eq!(escape("a$b `c` \"d\" 'e'"), "a`$b ``c`` `\"d`\" `'e`'");
        let elevated = Elevated::new("cmd /c \"a & b\" > x", "DOM\\it's", "p\"$w");
        assert!(elevated.script.contains("<UserId>DOM\\it`&apos;s</UserId>"), "{}", elevated.script);
        assert!(elevated.script.contains("$password = \"p`\"`$w\"\n"));
        assert!(
            elevated.script.contains("<Arguments>/c cmd /c &quot;a &amp; b&quot; &gt; x &gt; %SYSTEMROOT%")
        );
        // Without its task it would wait for ever.
        let refused = elevated.script.find("} catch {\n  [Console]::Error").unwrap();
        assert!(elevated.script[refused..].contains("  exit 1\n}\n$tries = 0\n"), "{}", elevated.script);
        let id = elevated.path.strip_prefix(ELEVATED).unwrap().strip_suffix(".ps1").unwrap();
        assert!(elevated.script.contains(&format!("RegisterTask('packer-{id}'")));
    }

    #[test]
    fn files_are_removed_whatever_they_are_called() {
        let text = cleanup(["c:/a.ps1", "C:/My Files/it's.ps1"]);
        assert_eq!(
            text,
            "if (Test-Path c:/a.ps1) { Remove-Item c:/a.ps1 }\n\
             if (Test-Path 'C:/My Files/it''s.ps1') { Remove-Item 'C:/My Files/it''s.ps1' }\n"
        );
    }

    #[test]
    fn lines_stand_in_a_frame() {
        let text = inline(&["one".into(), "two\nthree".into()], "$env:A=\"1\"; ", 2);
        assert!(text.contains("Set-PsDebug -Trace 2\n$exitCode = 0\ntry {\n\t$env:A=\"1\"; \n\tone\n\ttwo\nthree\n\t$exitCode = 0\n} catch"), "{text}");
        assert!(!inline(&[], "", 0).contains("PsDebug"));
    }
}
