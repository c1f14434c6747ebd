#!/bin/sh
# Called by busybox's udhcpc for the firmware of an nspawn node: the event is $1, the lease is in the environment.
# Keeps the name of the boot file in $PERFCI_LEASE; the rest is the same as in the deploy ramdisk.
[ "$1" != bound ] || printf 'ip=%s\nboot_file=%s\n' "$ip" "${bootfile:-${boot_file:-}}" >"$PERFCI_LEASE"
exec sh "$PERFCI_LEASE_SCRIPT" "$1"
