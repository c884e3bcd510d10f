# Linux and Windows in one build block; `-only` takes one of them.
#
#   packer build examples/amazon/linux_and_windows.pkr.hcl
#   packer build -only='amazon-ebs.linux' examples/amazon/linux_and_windows.pkr.hcl
#   packer build -only='amazon-ebs.windows' examples/amazon/linux_and_windows.pkr.hcl

packer {
  required_plugins {
    amazon = {
      source  = "github.com/hashicorp/amazon"
      version = ">= 1.3"
    }
  }
}

variable "region" {
  type    = string
  default = "eu-central-1"
}

locals {
  stamp = formatdate("YYYYMMDDhhmmss", timestamp())
  tags = {
    Team     = "platform"
    MadeFrom = "{{ .SourceAMIName }}"
  }
}

source "amazon-ebs" "linux" {
  region        = var.region
  instance_type = "t3.micro"
  ami_name      = "app-linux-${local.stamp}"
  tags          = local.tags

  source_ami_filter {
    filters = {
      name             = "al2023-ami-2023.*-x86_64"
      root-device-type = "ebs"
    }
    owners      = ["amazon"]
    most_recent = true
  }

  ssh_username            = "ec2-user"
  temporary_key_pair_type = "ed25519"
}

source "amazon-ebs" "windows" {
  region        = var.region
  instance_type = "t3.large"
  ami_name      = "app-windows-${local.stamp}"
  tags          = local.tags

  source_ami_filter {
    filters = {
      name             = "Windows_Server-2022-English-Full-Base-*"
      root-device-type = "ebs"
    }
    owners      = ["amazon"]
    most_recent = true
  }

  # The password is the one that Windows makes and EC2 encrypts for the key pair of the build, which is RSA for that.
  # `examples/windows/enable-winrm.ps1` opens WinRM over HTTPS when the instance starts for the first time.
  user_data      = "<powershell>\n${file("../windows/enable-winrm.ps1")}\n</powershell>\n"
  communicator   = "winrm"
  winrm_username = "Administrator"
  winrm_use_ssl  = true
  winrm_use_ntlm = true # the password itself is not sent
  winrm_insecure = true # the certificate is one that the machine made for itself
  winrm_timeout  = "30m"
}

build {
  sources = ["amazon-ebs.linux", "amazon-ebs.windows"]

  provisioner "shell" {
    only = ["amazon-ebs.linux"]
    inline = [
      "cloud-init status --wait",
      "sudo dnf -y upgrade",
      "sudo dnf -y install nginx",
    ]
  }

  provisioner "powershell" {
    only   = ["amazon-ebs.windows"]
    inline = ["Install-WindowsFeature -Name Web-Server -IncludeManagementTools | Out-Null"]
  }

  provisioner "windows-restart" {
    only = ["amazon-ebs.windows"]
  }

  # Instances of the image begin as new ones, with their own password and their own user data. WinRM still listens in
  # them: their security groups decide who reaches it.
  provisioner "powershell" {
    only   = ["amazon-ebs.windows"]
    inline = ["& 'C:/Program Files/Amazon/EC2Launch/ec2launch.exe' reset --block"]
  }

  post-processor "manifest" {
    output = "app.manifest.json"
  }
}
