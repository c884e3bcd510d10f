# Lets WinRM in over HTTPS with a certificate that the machine makes for itself, and with NTLM: the template says
# winrm_use_ssl, winrm_insecure and winrm_use_ntlm. Run it once as an administrator, in the machine or from
# autounattend.xml. Before an image is published, take it back: Remove-Item -Recurse WSMan:\localhost\Listener\*
$ErrorActionPreference = 'Stop'

# WinRM does not start on networks that count as public.
Get-NetConnectionProfile | Where-Object NetworkCategory -eq 'Public' | Set-NetConnectionProfile -NetworkCategory Private
Enable-PSRemoting -Force -SkipNetworkProfileCheck

$certificate = New-SelfSignedCertificate -DnsName $env:COMPUTERNAME -CertStoreLocation Cert:\LocalMachine\My
Get-ChildItem WSMan:\localhost\Listener | Where-Object { $_.Keys -contains 'Transport=HTTPS' } | Remove-Item -Recurse
New-Item -Path WSMan:\localhost\Listener -Transport HTTPS -Address * -CertificateThumbPrint $certificate.Thumbprint -Force | Out-Null

# Passwords do not go over the network in clear: neither Basic nor HTTP without encryption.
Set-Item WSMan:\localhost\Service\Auth\Negotiate $true
Set-Item WSMan:\localhost\Service\Auth\Basic $false
Set-Item WSMan:\localhost\Service\AllowUnencrypted $false

# What installers need that run for long.
Set-Item WSMan:\localhost\MaxTimeoutms 1800000
Set-Item WSMan:\localhost\Shell\MaxMemoryPerShellMB 2048

# Local administrators other than Administrator have their rights by network too.
New-ItemProperty -Path HKLM:\SOFTWARE\Microsoft\Windows\CurrentVersion\Policies\System -Name LocalAccountTokenFilterPolicy -Value 1 -PropertyType DWord -Force | Out-Null

New-NetFirewallRule -DisplayName 'WinRM over HTTPS' -Direction Inbound -Protocol TCP -LocalPort 5986 -Action Allow | Out-Null
Set-Service WinRM -StartupType Automatic
Restart-Service WinRM
