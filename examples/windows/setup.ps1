# What windows.pkr.hcl and windows.rs run as SYSTEM.
$ErrorActionPreference = 'Stop'
New-Item -ItemType Directory -Force -Path C:\app | Out-Null
Set-Content -Path C:\app\stage.txt -Value "stage: $env:STAGE"
Write-Output "set up as $([System.Security.Principal.WindowsIdentity]::GetCurrent().Name)"
exit 3010
