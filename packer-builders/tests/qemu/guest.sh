#!/bin/bash
# guest.sh FOLDER: makes two tiny disks in FOLDER, a Linux that answers on ssh after about five seconds of the processor with TCG:
# `listens.qcow2` powers down when its power button is pressed, `deaf.qcow2` does not. Nothing is installed: the pieces are Debian
# packages that apt-get downloads. The programs it needs are in .ci/setup.
#
# A disk: MBR, a FAT partition (syslinux, kernel, initramfs), an ext4 partition at 33 MiB; root / rootpw, `poweroff` works.
set -euo pipefail
mkdir -p "$1"
D=$(cd "$1" && pwd)
cd "$D"
rm -rf work
mkdir -p debs work/x
K=$(apt-cache depends linux-image-cloud-amd64 | grep -o 'linux-image-[0-9].*cloud-amd64')
P=("$K" busybox dropbear-bin libtomcrypt1 libtommath1 openssh-sftp-server syslinux syslinux-common)
(cd debs && apt-get download "${P[@]}")
cd work
for d in ../debs/*.deb; do dpkg-deb -x "$d" x; done
X=$PWD/x R=$PWD/root
export LD_LIBRARY_PATH=$X/usr/lib/x86_64-linux-gnu PATH=$PATH:/usr/sbin:/sbin
mkdir -p "$R"/{bin,sbin,usr/bin,usr/sbin,usr/lib/openssh,lib/x86_64-linux-gnu,lib64,dev,proc,sys,run,tmp,mnt} \
  "$R"/{etc/dropbear,root/.ssh,lib/modules,var/log}
chmod 1777 "$R/tmp"
chmod 700 "$R/root" "$R/root/.ssh"
cp x/bin/busybox "$R/bin/busybox"
for a in $("$R/bin/busybox" --list); do [ -e "$R/bin/$a" ] || ln -s busybox "$R/bin/$a"; done
cp x/usr/sbin/dropbear "$R/usr/sbin/"
cp x/usr/lib/openssh/sftp-server "$R/usr/lib/openssh/"
cp "$(command -v scp)" "$R/usr/bin/"
for b in bin/busybox usr/sbin/dropbear usr/lib/openssh/sftp-server usr/bin/scp; do
  ldd "$R/$b" | grep -o '/[^ ]*' | while read -r l; do cp -nL "$l" "$R/lib/x86_64-linux-gnu/"; done
done
cp -L /lib64/ld-linux-x86-64.so.2 "$R/lib64/"
DISK="virtio_ring virtio virtio_pci_modern_dev virtio_pci_legacy_dev virtio_pci virtio_blk failover net_failover virtio_net"
for m in $DISK evdev button; do
  f=$(find x/lib/modules/*/kernel -name "$m.ko" | head -1)
  [ -z "$f" ] || cp "$f" "$R/lib/modules/"
done
echo 'root:x:0:0::/root:/bin/sh' >"$R/etc/passwd"
echo 'root:x:0:' >"$R/etc/group"
echo /bin/sh >"$R/etc/shells"
echo "root:$(openssl passwd -6 rootpw):19000:0:99999:7:::" >"$R/etc/shadow"
chmod 600 "$R/etc/shadow"
{
  echo '-----BEGIN SSH HOST KEY KEYS-----'
  for t in ed25519 ecdsa rsa; do
    x/usr/bin/dropbearkey -t $t -f "$R/etc/dropbear/dropbear_${t}_host_key" | grep '^ssh-\|^ecdsa-'
  done
  echo '-----END SSH HOST KEY KEYS-----'
} >"$R/etc/host-keys" 2>/dev/null
cat >"$R/init" <<INIT
#!/bin/sh
export PATH=/bin:/sbin:/usr/bin:/usr/sbin
mount -t proc proc /proc; mount -t sysfs sys /sys; mount -t devtmpfs dev /dev
for m in $DISK; do [ -f /lib/modules/\$m.ko ] && insmod /lib/modules/\$m.ko; done
i=0; while [ ! -b /dev/vda2 ] && [ \$i -lt 50 ]; do sleep 0.1; i=\$((i+1)); done
mount -t ext4 /dev/vda2 /mnt && umount /dev /sys /proc && exec switch_root /mnt /sbin/init
exec sh
INIT
printf '::sysinit:/etc/rc\n::ctrlaltdel:/sbin/reboot\n::shutdown:/bin/sync\n::shutdown:/bin/umount -a -r\n' >"$R/etc/inittab"
# The network waits for its card; the power button is an input device, whose first event is that it is pressed.
cat >"$R/etc/rc" <<'RC'
#!/bin/sh
export PATH=/bin:/sbin:/usr/bin:/usr/sbin
mount -t proc proc /proc; mount -t sysfs sys /sys; mount -t devtmpfs dev /dev
mkdir -p /dev/pts; mount -t devpts devpts /dev/pts; mount -o remount,rw /
if grep -q power-button /proc/cmdline; then
  for m in evdev button; do [ ! -f /lib/modules/$m.ko ] || insmod /lib/modules/$m.ko; done
  for e in $(grep -A 4 'Name="Power Button"' /proc/bus/input/devices | grep -o 'event[0-9]*'); do
    (dd if=/dev/input/$e of=/dev/null bs=24 count=1 2>/dev/null; poweroff) &
  done
fi
ip link set lo up
i=0; while [ ! -d /sys/class/net/eth0 ] && [ $i -lt 50 ]; do sleep 0.1; i=$((i+1)); done
ip link set eth0 up; ip addr add 10.0.2.15/24 dev eth0; ip route add default via 10.0.2.2; echo nameserver 10.0.2.3 >/etc/resolv.conf
# What a test asks for of the machine stands in its serial number.
asked=$(cat /sys/class/dmi/id/product_serial 2>/dev/null)
case $asked in *-keys) echo "Cloud-init v. 22.4.2 running 'init' at Thu" >/dev/console ;; esac
dropbear -E -p 22
case $asked in *-keys) sleep 4 ;; esac
[ "$asked" != other-keys ] || sed -i 's/ AAAA\(.*\)[a-z]\(.*\) / AAAA\1Z\2 /' /etc/host-keys
cat /etc/host-keys >/dev/console
RC
chmod +x "$R/init" "$R/etc/rc"
ln -sf ../bin/busybox "$R/sbin/init"
for a in poweroff reboot halt; do ln -sf ../bin/busybox "$R/sbin/$a"; done
(cd "$R" && find . | cpio -o -H newc --quiet -R 0:0 | gzip -6 >../initrd.img)
truncate -s 95M root.img
mke2fs -q -t ext4 -O ^has_journal -d root root.img
for kind in deaf listens; do
  truncate -s 0 raw
  truncate -s 128M raw
  rm -f fat.img
  truncate -s 32M fat.img
  printf 'label: dos\nstart=2048,size=65536,type=c,bootable\nstart=67584,type=83\n' | sfdisk -q raw
  dd if=x/usr/lib/syslinux/mbr/mbr.bin of=raw conv=notrunc bs=440 count=1 status=none
  mkfs.vfat -h 2048 fat.img >/dev/null
  word=""
  [ $kind = deaf ] || word=power-button
  printf 'default l\nlabel l\n linux /vmlinuz\n initrd /initrd.img\n append console=ttyS0 quiet %s\n' $word >syslinux.cfg
  mcopy -i fat.img x/boot/vmlinuz-* ::vmlinuz
  mcopy -i fat.img initrd.img syslinux.cfg ::
  x/usr/bin/syslinux --install fat.img
  dd if=fat.img of=raw bs=1M seek=1 conv=notrunc,sparse status=none
  dd if=root.img of=raw bs=1M seek=33 conv=notrunc,sparse status=none
  qemu-img convert -O qcow2 raw ../$kind.tmp
  mv ../$kind.tmp ../$kind.qcow2
done
cd ..
rm -rf work debs
