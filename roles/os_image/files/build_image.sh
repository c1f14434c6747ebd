#!/bin/sh
# Builds the system of the nodes twice from one tree: as a disk image and as a tar.
#
#   build_image.sh OUT OVERLAY      what it shall be is in the environment, below
#
# OUT then has image.json, disk.img.gz, root.tar.gz, kernel.tar.gz and packages.txt; it appears whole or not at all. Needs root for
# mmdebstrap and for the owners of the files, but no loop device and no boot loader's installer: mke2fs takes the tree as it is,
# GRUB's core goes behind the boot record, and the EFI partition is written by mtools.
#
#   IMAGE_SUITE              Debian's release, such as bookworm
#   IMAGE_SOURCES            lines of sources.list
#   IMAGE_PACKAGES           names, spaces between them
#   IMAGE_FREE_MIB           room in the file system beside what is installed
#   IMAGE_KERNEL_ARGUMENTS   for the nodes' kernel
#   IMAGE_UNITS              systemd units that are enabled, spaces between them; all others are not
#   IMAGE_INPUTS             digest of all of it, for the node to tell
#   IMAGE_PACKAGE_CACHE      folder that keeps packages for the next build of this release; not part of the digest
#
# The disk boots by BIOS and by UEFI. It has a GPT: a partition with GRUB's core for BIOS, an EFI system partition with GRUB at the
# path for removable media, and the root partition as the last one, so that it can grow.
set -eu
umask 022

out=$1 overlay=$2
part=$out.part
tree=$part/tree
disk=$part/disk.img
uuid=$(cat /proc/sys/kernel/random/uuid)
mebibyte=1048576
core_start=1 efi_start=2 efi_mib=40       # MiB; FAT32, which UEFI asks of fixed disks, begins at 33 MiB
root_start=$((efi_start + efi_mib))       # MiB
root_partition=3 efi_partition=2
sectors=2048                              # in a MiB
grub_modules="part_gpt ext2 normal linux search search_fs_uuid serial terminal echo"

debian() {
    # What the controller's apt was told about fetching (proxies, certificates, snapshots) holds here, too.
    apt-config dump | grep '^Acquire::' | grep -v ' "";$' >"$part/apt.conf" || :
    printf '%s\n' "$IMAGE_SOURCES" >"$part/sources.list"
    # Packages stay where the next build finds them, other than those that can't be fetched any more. apt locks the folder and gives
    # up where another build has it; here the other one is waited for.
    exec 8<"$IMAGE_PACKAGE_CACHE"
    flock 8
    # shellcheck disable=SC2016  # mmdebstrap says what $1 is
    mmdebstrap --mode=root --variant=minbase --format=directory --skip=essential/unlink \
        --setup-hook='mkdir -p "$1/var/cache/apt/archives" && mount --bind "$IMAGE_PACKAGE_CACHE" "$1/var/cache/apt/archives"' \
        --customize-hook='chroot "$1" apt-get -q autoclean && umount "$1/var/cache/apt/archives"' \
        --include="$(echo "$IMAGE_PACKAGES" | tr -s ' ' ,)" \
        --aptopt="$part/apt.conf" --aptopt='Apt::Install-Recommends "false"' \
        --dpkgopt='path-exclude=/usr/share/doc/*' --dpkgopt='path-exclude=/usr/share/man/*' \
        --dpkgopt='path-exclude=/usr/share/locale/*' \
        "$IMAGE_SUITE" "$tree" - <"$part/sources.list"
    flock -u 8
}

# Make it what every node has in common; what is a node's own, its deployment adds.
settle() {
    cp -R "$overlay/." "$tree/"
    rm -f "$tree"/etc/ssh/ssh_host_* "$tree"/etc/apt/apt.conf.d/99mmdebstrap "$tree"/etc/hostname
    : >"$tree/etc/machine-id"
    printf 'UUID=%s / ext4 defaults,noatime 0 1\n' "$uuid" >"$tree/etc/fstab"
    printf '%s\n' "$IMAGE_INPUTS" >"$tree/etc/perfci-image"
    mkdir -p "$tree/etc/systemd/system-preset"
    {
        for unit in $IMAGE_UNITS; do echo "enable $unit"; done
        echo 'disable *' # what a package enables for itself runs behind our backs
    } >"$tree/etc/systemd/system-preset/00-perfci.preset"
    systemctl --root="$tree" preset-all --quiet
    kernel=$(ls "$tree/boot" | sed -n 's/^vmlinuz-//p')
    [ "$(echo "$kernel" | wc -w)" = 1 ] || { echo "the packages must have exactly one kernel, there are: $kernel" >&2; exit 1; }
    mkdir -p "$tree/boot/grub"
    cat >"$tree/boot/grub/grub.cfg" <<CONFIG
set timeout=0
if serial --unit=0 --speed=115200; then terminal_output console serial; fi
search --no-floppy --fs-uuid --set=root $uuid
linux /boot/vmlinuz-$kernel root=UUID=$uuid ro $IMAGE_KERNEL_ARGUMENTS
initrd /boot/initrd.img-$kernel
boot
CONFIG
    dpkg-query --admindir="$tree/var/lib/dpkg" --show >"$part/packages.txt"
}

# What the deploy ramdisk writes UEFI's boot entries with, and its libraries.
ramdisk_tools() {
    mkdir -p "$part/tools/ramdisk"
    for file in $(chroot "$tree" ldd /bin/efibootmgr | grep -o '/[^ ]*') /bin/efibootmgr; do
        (cd "$tree" && cp --parents --dereference ".$file" "$part/tools/ramdisk/")
    done
}

pack() {
    tar -C "$tree" --numeric-owner --xattrs --xattrs-include='*' --sort=name \
        --use-compress-program='gzip -1' -cf "$part/root.tar.gz" .
    # For the deploy ramdisk, which runs the same kernel.
    firmware=
    [ ! -d "$tree/usr/lib/firmware" ] || firmware=usr/lib/firmware
    # shellcheck disable=SC2086  # none, or one
    tar -C "$tree" --use-compress-program='gzip -1' -cf "$part/kernel.tar.gz" boot usr/lib/modules $firmware -C "$part/tools" ramdisk
}

efi_partition() {
    echo "search --no-floppy --fs-uuid --set=root $uuid
set prefix=(\$root)/boot/grub" >"$part/efi.cfg"
    # efi_gop: without it the kernel has no screen.
    # shellcheck disable=SC2086  # a list
    grub-mkimage -O x86_64-efi -o "$part/BOOTX64.EFI" -c "$part/efi.cfg" -p /boot/grub $grub_modules efi_gop
    mformat -C -F -c 1 -i "$part/efi.img" -T $((efi_mib * sectors)) -h 64 -s 32 ::
    mmd -i "$part/efi.img" ::/EFI ::/EFI/BOOT
    mcopy -i "$part/efi.img" "$part/BOOTX64.EFI" ::/EFI/BOOT/BOOTX64.EFI
}

# A number as eight bytes, the lowest first.
eight_bytes() {
    number=$1
    for _ in 1 2 3 4 5 6 7 8; do
        # shellcheck disable=SC2059  # an escape that printf reads
        printf "\\$(printf %o $((number % 256)))"
        number=$((number / 256))
    done
}

# GRUB's core goes where GRUB's installer would put it: its first sector is told to the boot record, and its second one to the
# first; see kernel_sector in GRUB's boot.S (0x5c) and blocklist_default_start in its diskboot.S (0x1f4).
write_core() {
    start=$((core_start * sectors))
    dd if=/usr/lib/grub/i386-pc/boot.img of="$disk" bs=440 count=1 conv=notrunc status=none
    eight_bytes "$start" | dd of="$disk" bs=1 seek=$((0x5c)) conv=notrunc status=none
    dd if="$part/core.img" of="$disk" bs=512 seek="$start" conv=notrunc status=none
    eight_bytes $((start + 1)) | dd of="$disk" bs=1 seek=$((start * 512 + 0x1f4)) conv=notrunc status=none
}

write_disk() {
    used=$(du --summarize --block-size=1M "$tree" | cut -f 1)
    root_mib=$((used + used / 8 + 64 + IMAGE_FREE_MIB)) # an eighth and 64 MiB for inode tables and the journal
    truncate -s $((root_start + root_mib + 1))M "$disk" # the last MiB is for the second copy of the table
    sfdisk --quiet "$disk" <<TABLE
label: gpt
start=$((core_start * sectors)), size=$sectors, type=21686148-6449-6E6F-744E-656564454649
start=$((efi_start * sectors)), size=$((efi_mib * sectors)), type=C12A7328-F81F-11D2-BA4B-00A0C93EC93B
start=$((root_start * sectors)), size=$((root_mib * sectors)), type=0FC63DAF-8483-4772-8E79-3D69D8477DE4
TABLE
    # GRUB 2.06 does not read a file system with a seed for its checksums. Nothing is left for the kernel to lay out later,
    # in the background, while something is measured.
    mke2fs -q -t ext4 -L root -U "$uuid" -O ^metadata_csum_seed,^orphan_file -d "$tree" \
        -E offset=$((root_start * mebibyte)),lazy_itable_init=0,lazy_journal_init=0 "$disk" "${root_mib}M"
    # shellcheck disable=SC2086  # a list
    grub-mkimage -O i386-pc -o "$part/core.img" -p "(,gpt$root_partition)/boot/grub" biosdisk $grub_modules
    [ "$(stat -c %s "$part/core.img")" -le $mebibyte ] || { echo "GRUB's core is too large for its partition" >&2; exit 1; }
    write_core
    efi_partition
    dd if="$part/efi.img" of="$disk" bs=1M seek=$efi_start conv=notrunc status=none
}

describe() {
    cat >"$part/image.json" <<JSON
{
  "image": "disk.img.gz",
  "image_bytes": $(stat -c %s "$disk"),
  "image_sha256": "$(sha256sum "$disk" | cut -d ' ' -f 1)",
  "image_partition": $root_partition,
  "efi_partition": $efi_partition,
  "root": "root.tar.gz",
  "root_sha256": "$(sha256sum "$part/root.tar.gz" | cut -d ' ' -f 1)",
  "kernel": "$kernel",
  "inputs": "$IMAGE_INPUTS"
}
JSON
}

# Another one may be at it.
exec 9<"$(dirname "$out")"
flock 9
[ ! -d "$out" ] || exit 0
rm -rf "$part" # of a build that was cut short
mkdir -p "$part"
debian
settle
ramdisk_tools
pack
write_disk
describe
gzip -1 "$disk"
rm -rf "$tree" "$part/tools" "$part/core.img" "$part/efi.cfg" "$part/efi.img" "$part/BOOTX64.EFI" "$part/apt.conf" "$part/sources.list"
mv "$part" "$out"
