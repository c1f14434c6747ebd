#!/bin/sh
# Puts a system on one node and tells the controller how far it is.
#
#   deploy.sh disk URL             on the machine's disk; the ramdisk's init calls it
#   deploy.sh folder URL FOLDER    into a folder, for a simulated machine that boots it with systemd-nspawn
#   deploy.sh choose RULE BYTES    prints the disk that the rule means, and changes nothing
#
# Exit status
#   0  the system is in place: reset the machine; its next boot must be from disk
#   1  it failed, and the controller was told why: power off
#   2  usage
#   3  done, and there is nothing to boot (a wiped disk): power off
# Called again after it was cut short, it begins anew. It needs busybox (for wget), and beside it what either
# busybox or Debian's essential packages have; for `folder` GNU tar. It is run in the network of the node, with
# the address that DHCP gave; nothing outside FOLDER, FOLDER.new, FOLDER.old and the temporary folder is touched.
#
# ## What the controller serves for a node
# URL is http://CONTROLLER:PORT/boot/MAC; MAC has six pairs of small hexadecimal digits with hyphens between them.
# Only the node's own address may read it, and only from the order to provision until `deployed` or `wiped`; then
# it is gone, and whoever boots from the network once more is sent to the disk.
#   URL/boot.ipxe        for iPXE: the kernel, the ramdisk and `perfci.url=URL` as an argument of the kernel
#   URL/boot.conf        lines of NAME=VALUE without quotes, read and never executed:
#       node             the host name
#       attempt          comes back in every report, so that a late one of an earlier attempt is known for what it is
#       task             install | wipe
#       mac              of the card that the system asks for its address on; left out: every card
#       console          serial console of the system, as ttyS1,115200; left out: the image's own
#       phone_home       http://CONTROLLER:PORT/phone-home/NODE
#       disk             which disk: see `choose` below
#       wipe             for task=wipe: headers (both ends of the disk) | full (all of it)
#       image            URL of the disk image, gzip
#       image_bytes      its size once unpacked, a multiple of 1 MiB
#       image_sha256     its SHA-256 once unpacked
#       image_partition  number of the root partition in it
#       efi_partition    number of the EFI system partition in it
#       firmware         bios | uefi: how the machine must have booted; left out: either. Not for `folder`
#       root             URL of the same system as a tar, gzip, for `folder`
#       root_sha256      SHA-256 of that file as it is served
#   URL/authorized_keys  who may log in as root
#   URL/host_key         the node's private SSH host key (Ed25519)
#   URL/host_key.pub     and its public half
#
# ## What it tells
# POST to phone_home with {"attempt": ..., "step": ..., "text": ...}; 204 is the answer. Steps, in this order:
#   ramdisk, disk, image, verify, inject, deployed     or     ramdisk, disk, wipe, wiped
# and from any of them to `failed`, whose text is the reason. A UEFI machine also tells `firmware` before the last one: what
# became of its boot entry.
set -u

# Beside this one: which disks there are.
. "${0%/*}/disks.sh"
mebibyte=1048576
work=$(mktemp -d) || exit 1
root_mounted=
attempt='' phone_home=''
trap 'cleanup' EXIT
trap 'exit 1' HUP INT TERM

cleanup() {
    [ -z "$root_mounted" ] || umount "$work/root"
    rm -rf "$work"
}

say() { echo "deploy: $*" >&2; }

# Debian's busybox crashes when its wget is given -T.

# POST one step; a few tries, as the network may still be coming up.
phone() {
    text=$(printf '%s' "${2:-}" | tr '\n\t"\\' "  ''" | tr -cd '\040-\176' | cut -c 1-500)
    say "$1 $text"
    for pause in 1 2 4 0; do
        timeout 10 busybox wget -q -O /dev/null \
            --post-data "{\"attempt\": \"$attempt\", \"step\": \"$1\", \"text\": \"$text\"}" "$phone_home" && return
        sleep "$pause"
    done
    say "the controller does not answer at $phone_home"
    return 1
}

fail() {
    phone failed "$*"
    exit 1
}

# What the commands so far had to say, for the reason of a failure.
complaints() { tail -n 5 "$work/errors" 2>/dev/null; }

conf() { sed -n "s/^$1=//p" "$work/boot.conf" | head -n 1; }

fetch() { timeout 30 busybox wget -q -O "$2" "$url/$1" 2>>"$work/errors"; }

# --- which disk ---------------------------------------------------------------------------------------------
# A rule is one or more of these, with commas between them; all of them must hold, and exactly one disk must be left:
#   smallest         the smallest of those that the other terms and the image leave
#   /dev/NAME        this one
#   /dev/disk/by-id/NAME, /dev/disk/by-path/NAME   the one that udev names so; the ramdisk has no udev, and works it out
#   serial=TEXT      the one with this serial number
#   wwn=TEXT         the one with this World Wide Name, as 0x5000c500a1b2c3d4 or naa.5000c500a1b2c3d4, or with this EUI-64
#   model=TEXT       disks of this model
#   rotational=0|1   0: flash only, 1: disks that turn
#   min_size=SIZE    disks of at least this size: 400G, 2T, 512M (powers of 1000), or bytes
# Removable, read-only and USB disks (virtual media of a BMC are such) are never chosen.

bytes_of() {
    number=${1%[KMGT]}
    case $number in '' | *[!0-9]*) return 1 ;; esac
    case $1 in
    *K) echo "$((number * 1000))" ;;
    *M) echo "$((number * 1000000))" ;;
    *G) echo "$((number * 1000000000))" ;;
    *T) echo "$((number * 1000000000000))" ;;
    *) echo "$number" ;;
    esac
}

# Keep the lines of $work/left for which the awk condition holds; it sees the value as ENVIRON["want"].
keep() {
    want=$2 awk -F '\t' "$1" "$work/left" >"$work/kept" && mv "$work/kept" "$work/left"
}

listed() {
    awk -F '\t' '{
        printf "%s/dev/%s (%s bytes, serial %s", sep, $1, $2, $3 == "" ? "unknown" : $3
        if ($4 != "") printf ", wwn %s", $4
        if ($5 != "") printf ", model %s", $5
        if ($6 != "") printf ", rotational %s", $6
        printf ")"
        sep = ", "
    }' "$1"
}

# Whether udev would name the disk so below /dev/disk/by-id. Models are not compared: the kernel has but 16 characters of some.
is_id() {
    serial=$(serial_of "$sys/block/$1" | tr -s ' ' '_') wwn=$(wwn_of "$sys/block/$1")
    if [ -n "$wwn" ]; then
        case $2 in "wwn-0x$wwn" | "scsi-3$wwn" | "nvme-eui.$wwn") return 0 ;; esac
    fi
    [ -n "$serial" ] || return 1
    case $2 in "virtio-$serial" | ata-*_"$serial" | scsi-*_"$serial" | nvme-*_"$serial" | nvme-*_"$serial"_[0-9]*) ;; *) return 1 ;; esac
}

# Whether udev would name the disk so below /dev/disk/by-path: the last PCI device on the way to it, and what is beyond that.
is_path() {
    real=$(readlink -f "$sys/block/$1")
    parts=$(printf '%s\n' "$real" | tr / '\n')
    pci=$(printf '%s\n' "$parts" | grep -x '[0-9a-f]\{4\}:[0-9a-f]\{2\}:[0-9a-f]\{2\}\.[0-7]' | tail -n 1)
    [ -n "$pci" ] || return 1
    host=$(printf '%s\n' "$parts" | grep -x 'host[0-9]*' | tail -n 1)
    before=${real%%/"$host"/*}
    case $2 in
    "pci-$pci-nvme-${1##*n}") case $1 in nvme*) ;; *) return 1 ;; esac ;;
    "pci-$pci" | "virtio-pci-$pci") case $real in */virtio[0-9]*) ;; *) return 1 ;; esac ;;
    "pci-$pci-ata-"*)
        port=${2##*-ata-}
        [ "$(attribute "$before/ata_port/${before##*/}" port_no '')" = "${port%.0}" ]
        ;;
    "pci-$pci-scsi-"*)
        # C:T:L as it is; hosts are counted from the first one of the card.
        address=${real%/block/*} first=
        for one in "$before"/host*; do
            [ -n "$first" ] && [ "$first" -le "${one##*/host}" ] || first=${one##*/host}
        done
        address=${address##*/}
        [ "${2##*-scsi-}" = "$((${host#host} - first)):${address#*:}" ]
        ;;
    *) return 1 ;;
    esac
}

# Keep the disks for which a check by name holds.
keep_named() {
    : >"$work/kept"
    while IFS= read -r line; do
        if "$1" "$(printf '%s' "$line" | cut -f 1)" "$2"; then printf '%s\n' "$line" >>"$work/kept"; fi
    done <"$work/left"
    mv "$work/kept" "$work/left"
}

# Print name, bytes and serial of the disk that RULE means and that has at least BYTES; or say why there is none.
choose() {
    disks >"$work/disks"
    cp "$work/disks" "$work/left"
    keep '$2 + 0 >= ENVIRON["want"] + 0' "$2"
    smallest=
    rest=$1,
    while [ -n "$rest" ]; do
        term=${rest%%,*}
        rest=${rest#*,}
        case $term in
        smallest) smallest=yes ;;
        /dev/disk/by-id/?*) keep_named is_id "${term#/dev/disk/by-id/}" ;;
        /dev/disk/by-path/?*) keep_named is_path "${term#/dev/disk/by-path/}" ;;
        /dev/*) keep '$1 == ENVIRON["want"]' "${term#/dev/}" ;;
        serial=?*) keep '$3 "" == ENVIRON["want"] ""' "${term#serial=}" ;;
        wwn=?*) keep '$4 "" == ENVIRON["want"] ""' "$(wwn_digits "${term#wwn=}")" ;;
        model=?*) keep '$5 "" == ENVIRON["want"] ""' "${term#model=}" ;;
        rotational=[01]) keep '$6 "" == ENVIRON["want"] ""' "${term#rotational=}" ;;
        min_size=*)
            size=$(bytes_of "${term#min_size=}") || {
                echo "'$term' in the disk rule '$1' is no size: 400G, 2T or bytes"
                return 1
            }
            keep '$2 + 0 >= ENVIRON["want"] + 0' "$size"
            ;;
        *)
            echo "'$term' in the disk rule '$1' is unknown: smallest, /dev/NAME, /dev/disk/by-id/NAME, /dev/disk/by-path/NAME, serial=, wwn=, model=, rotational=, min_size="
            return 1
            ;;
        esac
    done
    [ -z "$smallest" ] || {
        least=$(awk -F '\t' 'NR == 1 || $2 + 0 < least { least = $2 + 0 } END { printf "%.0f", least }' "$work/left")
        keep '$2 + 0 == ENVIRON["want"] + 0' "$least"
    }
    case $(wc -l <"$work/left") in
    1) cut -f 1-3 "$work/left" ;;
    0)
        echo "no disk fits the rule '$1' and has $2 bytes; there are: $(listed "$work/disks")"
        return 1
        ;;
    *)
        echo "the disk rule '$1' is ambiguous, name one by serial=: $(listed "$work/left")"
        return 1
        ;;
    esac
}

# --- what is done with it -----------------------------------------------------------------------------------

# Choose the disk; sets disk (its name) and disk_bytes. The reason of a failure is printed in place of a disk.
find_disk() {
    found=$(choose "$(conf disk)" "$1") || fail "$found"
    disk=$(printf '%s\n' "$found" | cut -f 1)
    disk_bytes=$(printf '%s\n' "$found" | cut -f 2)
    phone disk "/dev/$disk, $disk_bytes bytes, serial $(printf '%s\n' "$found" | cut -f 3)"
}

# Overwrite MiB of a disk from an offset, both in MiB.
zero() { dd if=/dev/zero of="$dev/$disk" bs=$mebibyte seek="$1" count="$2" conv=notrunc status=none 2>>"$work/errors"; }

# Both ends: partition tables, boot loaders, RAID and LVM superblocks.
zero_ends() {
    size=$((disk_bytes / mebibyte))
    ends=16
    [ "$size" -ge "$ends" ] || ends=$size
    zero 0 "$ends" && zero "$((size - ends))" "$ends"
}

install_disk() {
    bytes=$(conf image_bytes)
    find_disk "$bytes"
    phone image "writing $bytes bytes to /dev/$disk"
    # No table of an earlier system may be left behind the end of the image, where partitioning tools look for one.
    zero_ends || fail "can't write to /dev/$disk: $(complaints)"
    busybox wget -q -O - "$(conf image)" 2>>"$work/errors" | gunzip 2>>"$work/errors" |
        dd of="$dev/$disk" bs=$mebibyte iflag=fullblock conv=notrunc status=none 2>>"$work/errors" ||
        fail "can't write the image to /dev/$disk: $(complaints)"
    phone verify "reading /dev/$disk again"
    sync
    # What is compared must come from the disk, not from memory.
    [ ! -b "$dev/$disk" ] || { blockdev --flushbufs "$dev/$disk" && echo 3 >/proc/sys/vm/drop_caches; } 2>>"$work/errors"
    sum=$(dd if="$dev/$disk" bs=$mebibyte count="$((bytes / mebibyte))" status=none 2>>"$work/errors" | sha256sum | cut -d ' ' -f 1)
    [ "$sum" = "$(conf image_sha256)" ] ||
        fail "what is on /dev/$disk has SHA-256 $sum, expected $(conf image_sha256): $(complaints)"
    mount_root || fail "can't mount the root partition on /dev/$disk: $(complaints)"
    inject "$work/root"
    umount "$work/root" || fail "can't unmount the root partition on /dev/$disk"
    root_mounted=
    sync
    tell_firmware
}

mount_root() {
    blockdev --rereadpt "$dev/$disk" 2>>"$work/errors" || return 1
    case $disk in *[0-9]) partition=${disk}p$(conf image_partition) ;; *) partition=$disk$(conf image_partition) ;; esac
    for _ in 1 2 3 4 5 6 7 8 9 10; do
        [ ! -e "$dev/$partition" ] || break
        sleep 1
    done
    mkdir -p "$work/root"
    mount -t ext4 "$dev/$partition" "$work/root" 2>>"$work/errors" && root_mounted=yes
}

install_folder() {
    phone disk "$folder"
    rm -rf "$folder.new" "$folder.old"
    mkdir -p "$folder.new" || fail "can't make $folder.new"
    mkfifo "$work/stream"
    phone image "unpacking into $folder"
    sha256sum <"$work/stream" >"$work/sum" &
    summing=$!
    busybox wget -q -O - "$(conf root)" 2>>"$work/errors" | tee "$work/stream" | gunzip 2>>"$work/errors" |
        tar -x -C "$folder.new" --numeric-owner --xattrs --xattrs-include='*' 2>>"$work/errors"
    unpacked=$?
    wait "$summing"
    [ "$unpacked" = 0 ] || fail "can't unpack into $folder: $(complaints)"
    phone verify "comparing the checksum"
    sum=$(cut -d ' ' -f 1 "$work/sum")
    [ "$sum" = "$(conf root_sha256)" ] ||
        fail "what was fetched has SHA-256 $sum, expected $(conf root_sha256): $(complaints)"
    inject "$folder.new"
    : >"$folder.new/etc/fstab" # there is no disk to check and mount
    [ ! -e "$folder" ] || mv "$folder" "$folder.old"
    mv "$folder.new" "$folder" || fail "can't put $folder in place"
    rm -rf "$folder.old"
}

# Make the system this node's own.
inject() {
    phone inject "keys and host name"
    umask 077
    node=$(conf node)
    mkdir -p "$1/root/.ssh"
    fetch authorized_keys "$1/root/.ssh/authorized_keys" &&
        fetch host_key "$1/etc/ssh/ssh_host_ed25519_key" &&
        fetch host_key.pub "$1/etc/ssh/ssh_host_ed25519_key.pub" || fail "can't fetch the keys: $(complaints)"
    umask 022
    {
        printf '%s\n' "$node" >"$1/etc/hostname"
        # Of a name with a domain the short form is a name of the node, too.
        names=$node
        [ "$node" = "${node%%.*}" ] || names="$node ${node%%.*}"
        printf '127.0.0.1 localhost\n127.0.1.1 %s\n::1 localhost\n' "$names" >"$1/etc/hosts"
    } 2>>"$work/errors" || fail "can't write the host name: $(complaints)"
    inject_network "$1/etc/systemd/network" "$(conf mac)"
    inject_console "$1/boot/grub/grub.cfg" "$(conf console)"
}

# Let the boot loader and the kernel talk on the port that this machine's BMC listens to: one image is for machines of any kind.
inject_console() {
    [ -n "$2" ] && [ -f "$1" ] || return 0
    unit=${2#ttyS} speed=${2#*,}
    sed "s/console=ttyS[^ ]*/console=$2/; s/^if serial --unit=[0-9]* --speed=[0-9]*/if serial --unit=${unit%%,*} --speed=${speed%%[!0-9]*}/" \
        "$1" >"$work/grub.cfg" 2>>"$work/errors" && cat "$work/grub.cfg" >"$1" || fail "can't set the console: $(complaints)"
}

# Let the system ask for an address on the card that it is provisioned by, and leave all others alone: what another network
# answers would be its route and its name server. The image's own configuration is for any card.
inject_network() {
    [ -n "$2" ] && [ -f "$1/50-perfci.network" ] || return 0
    sed "s/^Name=.*/MACAddress=$2/" "$1/50-perfci.network" >"$1/40-provision.network" 2>>"$work/errors" &&
        rm "$1/50-perfci.network" || fail "can't write the configuration of its network: $(complaints)"
}

# --- UEFI ---------------------------------------------------------------------------------------------------
# UEFI keeps its boot entries and their order in variables of the machine. Many firmwares find a loader at the path for removable
# media by themselves, on every disk; some only what has an entry.

label=perfci
loader='\EFI\BOOT\BOOTX64.EFI'

booted_by() { if [ -d "$sys/firmware/efi" ]; then echo uefi; else echo bios; fi; }

# The wrong one in the inventory makes orders that a BMC may not obey. Better now than after the disk was overwritten.
check_firmware() {
    firmware=$(conf firmware)
    [ -z "$firmware" ] || [ "$firmware" = "$(booted_by)" ] ||
        fail "it booted by $(booted_by), but provision_firmware is $firmware: correct the inventory, or the setup of the machine"
}

boot_manager() { timeout 60 efibootmgr "$@" 2>>"$work/errors"; }

# The numbers of the entries with our label. Newer versions of efibootmgr add a tab and the path.
entries() {
    tab=$(printf '\t')
    boot_manager | sed -n "s/^Boot\([0-9A-F]\{4\}\)[* ] $label\($tab.*\)\{0,1\}\$/\1/p"
}

# Remove the entries of earlier deployments; their places in the boot order go with them.
remove_entries() {
    for entry in $(entries); do boot_manager --quiet --bootnum "$entry" --delete-bootnum || return 1; done
}

# An entry that comes first in the boot order; all others keep theirs.
add_entry() {
    boot_manager --quiet --create --disk "$dev/$disk" --part "$(conf efi_partition)" --label "$label" --loader "$loader" &&
        [ -n "$(entries)" ]
}

# A firmware that takes no entry may yet find the loader, so this is no failure; if it does not, the report says why.
tell_firmware() {
    [ "$(booted_by)" = uefi ] || return 0
    if remove_entries && add_entry; then
        phone firmware "boot entry $(entries), $(boot_manager | grep '^BootOrder')"
    else
        phone firmware "no boot entry, so the firmware must find $loader by itself: $(complaints)"
    fi
}

let_firmware_forget() {
    [ "$(booted_by)" = uefi ] || return 0
    if remove_entries; then
        phone firmware "no boot entry is left, $(boot_manager | grep '^BootOrder')"
    else
        phone firmware "the boot entry could not be removed: $(complaints)"
    fi
}

# ------------------------------------------------------------------------------------------------------------

wipe_disk() {
    find_disk 0
    phone wipe "$(conf wipe) of /dev/$disk"
    case $(conf wipe) in
    headers) zero_ends || fail "can't write to /dev/$disk: $(complaints)" ;;
    # A drive need not return zeros for what was discarded, so both ends are written in any case.
    full)
        { blkdiscard "$dev/$disk" 2>/dev/null || zero 0 "$((disk_bytes / mebibyte))"; } && zero_ends ||
            fail "can't wipe /dev/$disk: $(complaints)"
        ;;
    *) fail "no such way to wipe: '$(conf wipe)'" ;;
    esac
    sync
    let_firmware_forget
}

wipe_folder() {
    phone disk "$folder"
    phone wipe "$folder"
    rm -rf "$folder" "$folder.new" "$folder.old" || fail "can't remove $folder"
}

# --- the course of it ---------------------------------------------------------------------------------------

read_orders() {
    for pause in 1 2 4 8 0; do
        fetch boot.conf "$work/boot.conf" && break
        sleep "$pause"
    done
    attempt=$(conf attempt) phone_home=$(conf phone_home)
    [ -n "$phone_home" ] && [ -n "$attempt" ] && return
    say "no orders at $url/boot.conf: $(complaints)"
    exit 1
}

# The controller must hear of the end: it would install once more at the next boot.
work_on() {
    target=$1
    read_orders
    phone ramdisk "$(uname -r)"
    [ "$target" = folder ] || check_firmware
    case $(conf task) in
    install)
        "install_$target"
        phone deployed "$(conf node)" || exit 1
        exit 0
        ;;
    wipe)
        "wipe_$target"
        phone wiped "$(conf node)" || exit 1
        exit 3
        ;;
    *) fail "no such task: '$(conf task)'" ;;
    esac
}

url=${2:-} folder=${3:-}
case ${1:-}/$# in
disk/2 | folder/3) work_on "$1" ;;
choose/3) choose "$2" "$3" ;;
*)
    sed -n 's/^# \{0,1\}//; 4,6p' "$0" >&2
    exit 2
    ;;
esac
