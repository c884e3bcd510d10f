# An image that goes to a registry, with the digest that it has there.
#
#   docker-registry serve config.yml &        # or any other registry
#   packer build -var repository=127.0.0.1:5000/web examples/docker/push.pkr.hcl
#
# Without `login` the credentials in Docker's configuration and its credential helpers are used.

variable "base" {
  type    = string
  default = "debian:12"
}

variable "pull" {
  type    = bool
  default = true
}

variable "repository" {
  type = string
}

variable "login" {
  type      = object({ user = string, password = string })
  default   = null
  sensitive = true
}

source "docker" "web" {
  image  = var.base
  pull   = var.pull
  commit = true
}

build {
  sources = ["docker.web"]

  provisioner "shell" {
    inline = ["echo pushed > /pushed"]
  }

  post-processors {
    post-processor "docker-tag" {
      repository = var.repository
      tags       = ["1.0", "latest"]
    }

    post-processor "docker-push" {
      login          = var.login != null
      login_server   = split("/", var.repository)[0]
      login_username = var.login == null ? "" : var.login.user
      login_password = var.login == null ? "" : var.login.password
    }

    post-processor "shell-local" {
      inline = ["echo 'pushed as ${build.ImageSha256}'"]
    }
  }
}
