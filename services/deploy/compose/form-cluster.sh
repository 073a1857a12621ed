#!/bin/sh
# Forms a cluster of the nodes HOST:PORT …, half of them replicas. Where they are one already, they are told each other's
# addresses: containers may have other ones after a restart, and a cluster knows its nodes by their IP addresses.
set -eu

to() { at=$1; shift; redis-cli -h "${at%:*}" -p "${at##*:}" "$@"; }
ip_of() { getent hosts "${1%:*}" | awk '{print $1; exit}'; }

addresses=
for node in "$@"; do
    until to "$node" ping 2>/dev/null | grep -q PONG; do sleep 0.2; done
    addresses="$addresses $(ip_of "$node"):${node##*:}"
done

if to "$1" cluster info | tr -d '\r' | grep -q '^cluster_slots_assigned:16384$'; then
    for node in "$@"; do
        for other in "$@"; do
            [ "$node" = "$other" ] || to "$node" cluster meet "$(ip_of "$other")" "${other##*:}" >/dev/null
        done
    done
else
    # shellcheck disable=SC2086 # a word each
    redis-cli --cluster create $addresses --cluster-replicas 1 --cluster-yes
fi

for node in "$@"; do
    until to "$node" cluster info | grep -q '^cluster_state:ok'; do sleep 0.2; done
done
