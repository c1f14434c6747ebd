#!/bin/sh
# Builds what a node boots from the network to be deployed: a kernel, and a ramdisk with busybox and drivers.
#
#   build_ramdisk.sh OUT KERNEL SCRIPTS ALWAYS MODULE...
#
# KERNEL is kernel.tar.gz of an image, SCRIPTS the folder with init, lease.sh, deploy.sh and disks.sh, ALWAYS the modules (spaces between
# them) that are loaded at every boot; MODULE are those that are loaded for the devices that want them. What the kernel does not
# have is left out and listed in OUT/missing.txt. OUT then has vmlinuz and initrd.gz; it appears whole or not at all.
set -eu
umask 022

out=$1 kernel_tar=$2 scripts=$3 always=$4
shift 4
part=$out.part
tree=$part/tree ram=$part/ram

# Another one may be at it.
exec 9<"$(dirname "$out")"
flock 9
[ ! -d "$out" ] || exit 0
rm -rf "$part" # of a build that was cut short
mkdir -p "$tree" "$ram"
tar -C "$tree" -xzf "$kernel_tar"
ln -s usr/lib "$tree/lib"
kernel=$(ls "$tree/lib/modules")
cp "$tree/boot/vmlinuz-$kernel" "$part/vmlinuz"

cd "$ram"
mkdir -p bin dev etc mnt proc run sys tmp "lib/modules/$kernel"
ln -s bin sbin # the kernel itself calls /sbin/modprobe
cp /bin/busybox bin/busybox
for applet in $(bin/busybox --list); do [ -e "bin/$applet" ] || ln -s busybox "bin/$applet"; done
cp -R "$tree/ramdisk/." . # tools of the image, with their libraries
cp "$scripts/init" init
cp "$scripts/lease.sh" "$scripts/deploy.sh" "$scripts/disks.sh" bin/
chmod 755 init bin/lease.sh bin/deploy.sh

: >"$part/missing.txt"
# shellcheck disable=SC2086  # a list
for module in $always "$@"; do
    modprobe --dirname "$tree" --set-version "$kernel" --ignore-install --show-depends "$module" 2>/dev/null ||
        echo "$module" >>"$part/missing.txt"
done | sed -n "s|^insmod $tree/\([^ ]*\).*|\1|p" | sort -u >"$part/modules.txt"
while read -r file; do
    (cd "$tree" && cp --parents "$file" "$ram/")
    for blob in $(modinfo -F firmware "$tree/$file"); do
        [ ! -e "$tree/lib/firmware/$blob" ] || (cd "$tree" && cp --parents --dereference "lib/firmware/$blob" "$ram/")
    done
done <"$part/modules.txt"
cp "$tree/lib/modules/$kernel/modules.order" "$tree/lib/modules/$kernel/modules.builtin" "lib/modules/$kernel/"
depmod --basedir "$ram" "$kernel"
for module in $always; do echo "$module"; done >etc/modules

find . | cpio --create --format=newc --owner=0:0 --quiet | gzip -9 >"$part/initrd.gz"
cd /
rm -rf "$tree" "$ram" "$part/modules.txt"
mv "$part" "$out"
