# A machine from an installer: its boot prompt is answered, and it fetches the other answers over HTTP. The waits look at the
# screen instead of the clock (Packer does not know them; with seconds, `<wait10s>`, the template is portable).
#
#   packer build -var iso=debian-12-amd64-netinst.iso examples/qemu/installer.pkr.hcl

variable "iso" {
  description = "Debian's network installer: a path or a URL."
  type        = string
}

variable "checksum" {
  type    = string
  default = "none"
}

source "qemu" "debian" {
  iso_url          = var.iso
  iso_checksum     = var.checksum
  disk_size        = "8G"
  memory           = 1024
  headless         = true
  output_directory = "output-debian"
  vm_name          = "debian.qcow2"

  http_content = {
    "/preseed.cfg" = file("preseed.cfg")
  }
  boot_wait = "1s"
  boot_command = [
    "<wait \"Debian GNU/Linux installer\" 2m><esc><wait \"boot:\" 30s>",
    "auto priority=critical url=http://{{ .HTTPIP }}:{{ .HTTPPort }}/preseed.cfg hostname={{ .Name }}<enter>",
  ]
  boot_key_interval = "20ms"

  ssh_username     = "root"
  ssh_password     = "packer"
  ssh_timeout      = "1h"
  shutdown_command = "poweroff"
}

build {
  sources = ["qemu.debian"]

  provisioner "shell" {
    inline = ["apt-get clean"]
  }
}
