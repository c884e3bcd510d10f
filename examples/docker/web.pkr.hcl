# An image with a web server in it, in three variants made from one definition.
#
#   packer build -var base=debian:12 examples/docker/web.pkr.hcl
#
# `base` is any image with a shell. With `-var pull=false` it is used as the engine has it.

packer {
  required_plugins {
    # The docker plugin is built in: this line is for people who run the template with Packer itself.
    docker = {
      source  = "github.com/hashicorp/docker"
      version = ">= 1.0.0"
    }
  }
}

variable "base" {
  type        = string
  default     = "debian:12"
  description = "The image to start from."
}

variable "pull" {
  type    = bool
  default = true
}

variable "repository" {
  type        = string
  default     = "example/web"
  description = "Where the images go; with a registry in front (127.0.0.1:5000/example/web) they can be pushed."
}

locals {
  variants = {
    plain   = "hello"
    loud    = "HELLO"
    spanish = "hola"
  }
}

source "docker" "web" {
  image  = var.base
  pull   = var.pull
  commit = true
  changes = [
    "EXPOSE 8080",
    "WORKDIR /srv/www",
    "ENTRYPOINT [\"/usr/local/bin/serve\"]",
    "CMD [\"8080\"]",
  ]
}

build {
  name = "variants"

  source "docker.web" {
    name = "plain"
  }

  source "docker.web" {
    name = "loud"
  }

  source "docker.web" {
    name = "spanish"
  }

  provisioner "shell" {
    inline = ["mkdir -p /srv/www /usr/local/bin"]
  }

  provisioner "file" {
    source      = "${path.root}/serve.sh"
    destination = "/usr/local/bin/serve"
  }

  provisioner "shell" {
    env = {
      GREETING = local.variants[source.name]
    }
    inline = [
      "chmod 755 /usr/local/bin/serve",
      "echo \"$GREETING from ${source.name}\" > /srv/www/index.html",
    ]
  }

  post-processors {
    post-processor "docker-tag" {
      repository = var.repository
      tags       = [source.name]
    }
    post-processor "manifest" {
      output = "web-manifest.json"
    }
  }
}
