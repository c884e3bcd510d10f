# A Windows machine that exists, entered by WinRM:
#
#   packer build -var host=192.0.2.7 -var password=… examples/windows
#
# What the image needs for that is in this folder: enable-winrm.ps1 (WinRM over HTTPS) or enable-openssh.ps1 (then
# communicator = "ssh"; the provisioners are the same). Run either once in the machine as an administrator, from
# autounattend.xml (FirstLogonCommands) or the user data of a cloud. examples/windows.rs is the same build in code.

variable "host" {
  type = string
}

variable "user" {
  type    = string
  default = "Administrator"
}

variable "password" {
  type      = string
  sensitive = true
}

source "null" "windows" {
  communicator   = "winrm"
  winrm_host     = var.host
  winrm_username = var.user
  winrm_password = var.password
  winrm_use_ntlm = true # the password itself is not sent
  winrm_use_ssl  = true
  winrm_insecure = true # the certificate is one that the machine made for itself
  winrm_timeout  = "30m"
}

build {
  sources = ["source.null.windows"]

  # Lines, in Windows PowerShell. An exception ends them with code 1.
  provisioner "powershell" {
    inline = [
      "Set-StrictMode -Version 2",
      "New-Item -ItemType Directory -Force -Path C:\\app | Out-Null",
      "Write-Output \"this is $env:COMPUTERNAME, built as $env:PACKER_BUILD_NAME\"",
    ]
  }

  provisioner "file" {
    source      = "${path.root}/setup.ps1"
    destination = "C:/app/"
  }

  # A script as SYSTEM, by a scheduled task: installers and Windows Update refuse to run in a WinRM shell.
  provisioner "powershell" {
    script           = "${path.root}/setup.ps1"
    elevated_user    = "SYSTEM"
    environment_vars = ["STAGE=test"]
    valid_exit_codes = [0, 3010] # 3010: it went well, and wants a restart
  }

  # Waits until the machine is back and no update wants it to be restarted once more.
  provisioner "windows-restart" {
    check_registry  = true
    restart_timeout = "15m"
  }

  provisioner "windows-shell" {
    inline = ["ver", "type C:\\app\\stage.txt"]
  }
}
