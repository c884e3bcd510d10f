# An image made from the image of another build: the base is built once, both variants start from it.
#
#   packer build -var base=debian:12 examples/docker/from-another.pkr.hcl
#
# `artifacts` is this library's own: Packer does not know it.

variable "base" {
  type    = string
  default = "debian:12"
}

variable "pull" {
  type    = bool
  default = true
}

source "docker" "base" {
  image  = var.base
  pull   = var.pull
  commit = true
}

source "docker" "app" {
  image  = artifacts["docker.base"].id
  pull   = false
  commit = true
}

build {
  sources = ["docker.base"]

  provisioner "shell" {
    inline = ["mkdir -p /opt", "echo common > /opt/common"]
  }
}

build {
  name = "on-top"

  source "docker.app" {
    name = "small"
  }

  source "docker.app" {
    name = "large"
  }

  provisioner "shell" {
    inline = ["echo ${source.name} | cat /opt/common - > /opt/what"]
  }

  post-processor "docker-tag" {
    repository = "example/app"
    tags       = [source.name]
  }
}
