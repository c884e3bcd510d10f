# Four builds that run at the same time, in seconds, with nothing but /bin/sh:
#
#     cargo run --bin packer -- build examples/quickstart
#     cargo run --bin packer -- build -var greeting=Servus -only='*.file.*' examples/quickstart
#
# What they make is in the folder output beside this file, and is listed at the end. One of them is a container image:
#
#     docker load -i examples/quickstart/output/hello.tar
#     podman pull oci:examples/quickstart/output/image:hello

packer {
  required_version = ">= 1.9.0"
}

variable "greeting" {
  type        = string
  default     = "Hello"
  description = "The first word of every page."

  validation {
    condition     = length(var.greeting) > 0
    error_message = "A page needs a first word."
  }
}

locals {
  output = "${path.root}/output"
  built  = formatdate("YYYY-MM-DD", timestamp())
}

# A page, written to a file. The build says which pages there are.
source "file" "page" {
  content = "<!doctype html>\n<title>${var.greeting}</title>\n"
}

# No machine at all: a place for checks that run on this computer.
source "null" "check" {
  communicator = "none"
}

# A container image, made of nothing but what is put into it: no engine, no root, no network.
source "oci" "hello" {
  output = [
    "oci:${local.output}/image:hello",
    "docker-archive:${local.output}/hello.tar:packer-quickstart:hello",
  ]
  labels = {
    "org.opencontainers.image.title" = "${var.greeting} from Packer"
  }
  source_date_epoch = 0 # the same content is the same image, whenever it is built
}

build {
  name        = "quickstart"
  description = "Two pages, packed and with checksums, a container image, and a check of this computer."

  source "file.page" {
    name   = "blue"
    target = "${local.output}/blue.html"
  }

  source "file.page" {
    name   = "green"
    target = "${local.output}/green.html"
  }

  source "oci.hello" {
  }

  source "null.check" {
  }

  # Provisioners run for every source, in order, unless they say otherwise.
  provisioner "shell-local" {
    only = ["file.blue", "file.green"]
    env = {
      PAGE = "${local.output}/${source.name}.html"
    }
    inline = [
      "echo '<h1 style=\"color: ${source.name}\">${var.greeting} from ${source.name}</h1>' >> \"$PAGE\"",
      "echo '<p>Built on ${local.built} by '\"$(uname -s)\"'</p>' >> \"$PAGE\"",
      "echo \"$(wc -c < \"$PAGE\") bytes in $PAGE\"",
    ]
  }

  provisioner "file" {
    only        = ["oci.hello"]
    content     = "<!doctype html>\n<title>${var.greeting} from an image</title>\n"
    destination = "/index.html"
  }

  provisioner "shell-local" {
    only        = ["null.check"]
    max_retries = 2
    inline = [
      "for tool in tar gzip; do command -v $tool > /dev/null && echo \"$tool is here\" || echo \"$tool is not needed\"; done",
    ]
  }

  # A sequence: each works on what the one before made.
  post-processors {
    post-processor "compress" {
      only                = ["file.blue", "file.green"]
      output              = "${local.output}/${source.name}.tar.gz"
      keep_input_artifact = true
    }

    post-processor "checksum" {
      only           = ["file.blue", "file.green"]
      checksum_types = ["sha256"]
      output         = "${local.output}/${source.name}.{{.ChecksumType}}"
    }
  }

  post-processor "manifest" {
    output     = "${local.output}/manifest.json"
    strip_path = true
    custom_data = {
      greeting = var.greeting
    }
  }
}
