# An image of the newest Debian with a web server in it.
#
#   packer build -var region=eu-central-1 examples/amazon/image.pkr.hcl
#
# Credentials and, without -var region, the region are found as AWS's own tools find them.

packer {
  required_plugins {
    amazon = {
      source  = "github.com/hashicorp/amazon"
      version = ">= 1.3"
    }
  }
}

variable "region" {
  description = "Where the image is made. Default what AWS_REGION or the profile says."
  type        = string
  default     = ""
}

variable "version" {
  description = "What the image's name ends with."
  type        = string
  default     = "1.0"
}

source "amazon-ebs" "web" {
  region        = var.region
  instance_type = "t3.micro"

  source_ami_filter {
    filters = {
      name                = "debian-12-amd64-*"
      root-device-type    = "ebs"
      virtualization-type = "hvm"
    }
    owners      = ["136693071363"] # Debian
    most_recent = true
  }

  # A key pair and a security group are made for the build, and gone after it.
  ssh_username = "admin"

  # Only version 2 of the metadata service, in the build and in what is started from the image.
  metadata_options {
    http_tokens = "required"
  }
  imds_support = "v2.0"

  ami_name        = "web-${var.version}-${formatdate("YYYYMMDDhhmmss", timestamp())}"
  ami_description = "A web server on {{ .SourceAMIName }}"
  tags = {
    Name     = "web ${var.version}"
    MadeFrom = "{{ .SourceAMI }}"
    Debian   = "{{ .SourceAMIName }}"
  }
  run_tags = {
    Name = "building web ${var.version}"
  }
}

build {
  sources = ["amazon-ebs.web"]

  provisioner "shell" {
    inline = [
      "cloud-init status --wait",
      "sudo apt-get update",
      "sudo DEBIAN_FRONTEND=noninteractive apt-get install -y --no-install-recommends nginx",
    ]
  }

  post-processor "manifest" {
    output = "web.manifest.json"
  }
}
