# A machine from a disk image that is there: a cloud image, which cloud-init on a CD tells who may enter.
#
#   packer build -var image=debian-12-genericcloud-amd64.qcow2 examples/qemu/from-image.pkr.hcl

variable "image" {
  description = "A qcow2 image with cloud-init: a path or a URL."
  type        = string
}

variable "checksum" {
  description = "What the image must be: sha512:…, file: and the URL of a list, or none."
  type        = string
  default     = "none"
}

source "qemu" "web" {
  iso_url          = var.image
  iso_checksum     = var.checksum
  disk_image       = true
  disk_size        = "4G"
  memory           = 1024
  headless         = true
  output_directory = "output-web"
  vm_name          = "web.qcow2"

  cd_label = "cidata"
  cd_content = {
    "meta-data" = "instance-id: web\n"
    "user-data" = <<-END
      #cloud-config
      users:
        - name: packer
          plain_text_passwd: packer
          lock_passwd: false
          shell: /bin/bash
          sudo: ALL=(ALL) NOPASSWD:ALL
      ssh_pwauth: true
    END
  }
  boot_wait = "-1s" # nothing is typed

  ssh_username     = "packer"
  ssh_password     = "packer"
  ssh_timeout      = "10m"
  shutdown_command = "sudo poweroff"
}

build {
  sources = ["qemu.web"]

  provisioner "shell" {
    inline = ["echo 'made by packer' | sudo tee /etc/motd"]
  }

  post-processor "vagrant" {
    output = "web_{{ .Provider }}.box"
  }
}
