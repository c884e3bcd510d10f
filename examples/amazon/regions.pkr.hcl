# An encrypted image in two regions, for accounts that may start instances of it.
#
#   packer build -var 'keys={"eu-central-1"="alias/images","us-east-1"="alias/images"}' examples/amazon/regions.pkr.hcl

packer {
  required_plugins {
    amazon = {
      source  = "github.com/hashicorp/amazon"
      version = ">= 1.3"
    }
  }
}

variable "region" {
  description = "Where the image is made; `keys` has a key for it, too."
  type        = string
  default     = "eu-central-1"
}

# Keys of one's own: what is encrypted with the default one cannot be given to another account.
variable "keys" {
  description = "The regions of the image, and the key that it is encrypted with in each: an id, an alias or an ARN."
  type        = map(string)
  default = {
    eu-central-1 = "alias/images"
    us-east-1    = "alias/images"
  }
}

variable "accounts" {
  description = "The accounts that may start instances of the image."
  type        = list(string)
  default     = []
}

# Looked up once, and the same for all that uses it.
data "amazon-ami" "debian" {
  region      = var.region
  owners      = ["136693071363"] # Debian
  most_recent = true
  filters = {
    name                = "debian-12-amd64-*"
    root-device-type    = "ebs"
    virtualization-type = "hvm"
  }
}

source "amazon-ebs" "base" {
  region        = var.region
  source_ami    = data.amazon-ami.debian.id
  instance_type = "t3.micro"
  ssh_username  = "admin"

  launch_block_device_mappings {
    device_name           = "/dev/xvda"
    volume_type           = "gp3"
    volume_size           = 10
    delete_on_termination = true
  }

  ami_name     = "base-${formatdate("YYYYMMDDhhmmss", timestamp())}"
  encrypt_boot = true
  # The key of the build's region stands in `kms_key_id`, those of the others in `region_kms_key_ids`.
  kms_key_id         = var.keys[var.region]
  ami_regions        = [for region in keys(var.keys) : region if region != var.region]
  region_kms_key_ids = { for region, key in var.keys : region => key if region != var.region }
  ami_users          = var.accounts
  snapshot_users     = var.accounts

  tags = {
    Name     = "base"
    MadeFrom = data.amazon-ami.debian.name
  }
}

build {
  sources = ["amazon-ebs.base"]

  provisioner "shell" {
    inline = [
      "cloud-init status --wait",
      "sudo apt-get update",
      "sudo DEBIAN_FRONTEND=noninteractive apt-get -y upgrade",
    ]
  }

  post-processor "manifest" {
    output = "base.manifest.json"
  }
}
