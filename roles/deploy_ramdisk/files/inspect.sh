#!/bin/sh
# Tells what machine this is: lines with tabs between their fields, which perfci/lab/inspection.py reads. Changes nothing.
#
#   cat disks.sh inspect.sh | sh -s [MAC]      MAC is that of the card that it is reached by, where that is known
#
# It needs what busybox or Debian's essential packages have, and what is missing is told as empty.
proc=${PERFCI_PROC:-/proc}

# One line: fields with tabs between them, whatever stands in them.
row() {
    printf '%s' "$1"
    shift
    for field in "$@"; do printf '\t%s' "$(printf '%s' "$field" | tr -cd '\040-\176')"; done
    printf '\n'
}

value_of() { [ ! -r "$1" ] || text_of "$1"; }

# How many different lines these files have: sockets, or cores.
different() { sort -u | grep -c .; }

cores() {
    for cpu in "$sys"/devices/system/cpu/cpu[0-9]*; do
        [ -r "$cpu/topology/core_id" ] && echo "$(value_of "$cpu/topology/physical_package_id") $(value_of "$cpu/topology/core_id")"
    done
}

# In the kernel's blocks: MemTotal is what the kernel has left of it.
memory() {
    block=$(value_of "$sys/devices/system/memory/block_size_bytes")
    [ -n "$block" ] || { awk '/^MemTotal:/ { printf "%.0f", $2 * 1024 }' "$proc/meminfo" && return; }
    blocks=$(cat "$sys"/devices/system/memory/memory[0-9]*/state | grep -c '^online')
    echo "$((blocks * 0x$block))"
}

# The last byte of the variable is its value; the four before it are attributes.
secure_boot() {
    variable=$sys/firmware/efi/efivars/SecureBoot-8be4df61-93ca-11d2-aa0d-00e098032b8c
    case $([ ! -r "$variable" ] || od -An -tu1 "$variable" | awk 'END { print $NF }') in
    1) echo on ;;
    0) echo off ;;
    *) if [ -d "$sys/firmware/efi" ]; then echo unknown; else echo off; fi ;;
    esac
}

# A card in a bond has the bond's MAC, and keeps its own here.
mac_of() { value_of "$1/bonding_slave/perm_hwaddr" | grep . || value_of "$1/address"; }

link_of() {
    case $(cat "$1/carrier" 2>/dev/null) in
    1) echo yes ;;
    0) echo no ;;
    *) echo unknown ;; # the kernel does not say where the interface is down
    esac
}

# The address on the PCI bus, or what else the device is called.
place_of() {
    path=$(readlink -f "$1")
    echo "$path" | tr / '\n' | grep -x '[0-9a-f]*:[0-9a-f]*:[0-9a-f]*\.[0-9a-f]' | tail -n 1 | grep . || basename "$path"
}

cards() {
    for entry in "$sys"/class/net/*; do
        [ "$(value_of "$entry/type")" = 1 ] || continue # Ethernet
        place='' driver=''
        [ ! -e "$entry/device" ] || place=$(place_of "$entry/device")
        [ ! -e "$entry/device/driver" ] || driver=$(basename "$(readlink -f "$entry/device/driver")")
        row card "${entry##*/}" "$(mac_of "$entry")" "$(link_of "$entry")" "$(cat "$entry/speed" 2>/dev/null)" \
            "$driver" "$place" "$(value_of "$entry/device/numa_node")"
    done
}

# What udev calls a disk, without the partitions' links.
links_of() {
    for link in "$dev"/disk/by-path/* "$dev"/disk/by-id/*; do
        [ "$(readlink -f "$link")" != "$(readlink -f "$dev/$1")" ] || printf '%s ' "${link#"$dev/disk/"}"
    done
}

inspect() {
    dmi=$sys/class/dmi/id
    echo 'perfci-inspection 1'
    row maker "$(value_of "$dmi/sys_vendor")"
    row model "$(value_of "$dmi/product_name")"
    row serial "$(value_of "$dmi/product_serial" 2>/dev/null)"
    if [ -d "$sys/firmware/efi" ]; then row firmware uefi; else row firmware bios; fi
    row firmware_maker "$(value_of "$dmi/bios_vendor")"
    row firmware_version "$(value_of "$dmi/bios_version")"
    row firmware_date "$(value_of "$dmi/bios_date")"
    row secure_boot "$(secure_boot)"
    row cpu "$(sed -n 's/^model name[^:]*: //p' "$proc/cpuinfo" | head -n 1)"
    row sockets "$(cores | cut -d ' ' -f 1 | different)"
    row cores "$(cores | different)"
    row threads "$(grep -c '^processor' "$proc/cpuinfo")"
    row memory_bytes "$(memory)"
    for node in "$sys"/devices/system/node/node[0-9]*; do
        [ -r "$node/cpulist" ] || continue
        row numa "${node##*/node}" "$(value_of "$node/cpulist")" "$(awk '/MemTotal:/ { printf "%.0f", $4 * 1024 }' "$node/meminfo")"
    done
    cards
    disks | while IFS= read -r line; do
        name=$(printf '%s' "$line" | cut -f 1)
        printf 'disk\t%s\t%s\n' "$line" "$(links_of "$name")"
    done
    row provision_mac "$1"
    echo end
}

# Over SSH: the card that has the address which was asked for.
reached_by() {
    address=$(echo "${SSH_CONNECTION:-}" | cut -d ' ' -f 3)
    [ -n "$address" ] || return 0
    card=$(ip -o addr show | awk -v address="$address" '{ split($4, parts, "/"); if (parts[1] == address) print $2 }' | head -n 1)
    [ -z "$card" ] || mac_of "$sys/class/net/$card"
}

inspect "${1:-$(reached_by)}"
