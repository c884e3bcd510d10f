# Lets SSH in, with the server that Windows has as a capability (since Windows 10 1809 and Server 2019), for
# communicator = "ssh". Run it once as an administrator.
$ErrorActionPreference = 'Stop'
Add-WindowsCapability -Online -Name OpenSSH.Server~~~~0.0.1.0 | Out-Null
Set-Service sshd -StartupType Automatic
Start-Service sshd
if (-not (Get-NetFirewallRule -Name OpenSSH-Server-In-TCP -ErrorAction SilentlyContinue)) {
  New-NetFirewallRule -Name OpenSSH-Server-In-TCP -DisplayName 'OpenSSH' -Direction Inbound -Protocol TCP -LocalPort 22 -Action Allow | Out-Null
}
# Keys of administrators stand in one file, which nobody else may write:
# Set-Content C:\ProgramData\ssh\administrators_authorized_keys (the line of your key)
# icacls C:\ProgramData\ssh\administrators_authorized_keys /inheritance:r /grant 'Administrators:F' /grant 'SYSTEM:F'
