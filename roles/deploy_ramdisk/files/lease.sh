#!/bin/sh
# What udhcpc does with a lease: the address and the route, nothing else. Also for simulated machines.
case $1 in
deconfig) ip addr flush dev "$interface" && ip link set "$interface" up ;;
bound | renew)
    ip addr replace "$ip/$mask" dev "$interface"
    for gateway in ${router:-}; do
        ip route replace default via "$gateway" dev "$interface"
        break
    done
    ;;
esac
