# Which disks a machine has; read by deploy.sh and by inspect.sh. Removable, read-only and USB disks are not among them.
# shellcheck shell=sh
sys=${PERFCI_SYS:-/sys}
dev=${PERFCI_DEV:-/dev}

serial_of() {
    {
        cat "$1/serial" "$1/device/serial" 2>/dev/null ||
            tail -c +5 "$1/device/vpd_pg80" 2>/dev/null
    } | tr -cd '\040-\176' | sed 's/^ *//; s/ *$//'
}

attribute() { cat "$1/$2" 2>/dev/null || echo "$3"; }

text_of() { tr -cd '\040-\176' <"$1" 2>/dev/null | sed 's/^ *//; s/ *$//'; }

# The hexadecimal digits of a World Wide Name, in whatever form it is written.
wwn_digits() { printf '%s' "$1" | tr 'A-Z' 'a-z' | sed 's/^naa\.//; s/^eui\.//; s/^0x//'; }

wwn_of() {
    for file in "$1/device/wwid" "$1/wwid"; do
        [ ! -r "$file" ] || wwn_digits "$(text_of "$file")"
    done
}

model_of() { [ ! -r "$1/device/model" ] || text_of "$1/device/model"; }

# One line per disk: name, bytes, serial number, WWN, model, and whether it turns; tabs between them.
disks() {
    for entry in "$sys"/block/*; do
        name=${entry##*/}
        case $name in loop* | ram* | zram* | sr* | fd* | dm-* | md* | nbd* | mtd* | '*') continue ;; esac
        case $(readlink -f "$entry") in */usb[0-9]*) continue ;; esac
        [ "$(attribute "$entry" removable 0)$(attribute "$entry" ro 0)$(attribute "$entry" hidden 0)" = 000 ] || continue
        sectors=$(attribute "$entry" size 0)
        [ "$sectors" -gt 0 ] || continue
        printf '%s\t%s\t%s\t%s\t%s\t%s\n' "$name" "$((sectors * 512))" "$(serial_of "$entry")" \
            "$(wwn_of "$entry")" "$(model_of "$entry")" "$(attribute "$entry" queue/rotational '')"
    done
}
