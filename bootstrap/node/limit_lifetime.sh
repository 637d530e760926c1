#!/usr/bin/env bash
# EMR bootstrap action: ends the cluster after MINUTES, even if everything outside has died.
#
#   limit_lifetime.sh MINUTES
#
# RunJobFlow knows no longest lifetime. This timer runs on the primary node alone, needs no network
# and no credentials, and outlives the shell that starts it: when it fires, it shuts the node down,
# and EMR ends a cluster whose primary is gone (unless it is termination-protected, which ours never
# are). Running it twice leaves the first timer in place.
set -euo pipefail

minutes=${1:?usage: limit_lifetime.sh MINUTES}
[[ $minutes =~ ^[1-9][0-9]*$ ]] || { echo "MINUTES is a whole number above 0, not '$minutes'" >&2; exit 2; }

instance_info=${INSTANCE_INFO:-/mnt/var/lib/info/instance.json}
# Without it this could be the primary: better no cluster than one without a timer.
[[ -r $instance_info ]] || { echo "$instance_info cannot be read: is this the primary node?" >&2; exit 1; }
if ! grep -Eq '"isMaster": *true' "$instance_info"; then
    echo "not the primary node: no timer here"
    exit 0
fi

timer=$(dirname "$instance_info")/limit_lifetime.pid
if [[ -s $timer ]] && kill -0 "$(<"$timer")" 2>/dev/null; then
    echo "the timer is already set (process $(<"$timer"))"
    exit 0
fi

# The commands as they are found now: those of a simulated node may be gone when the timer fires, and
# then it must not take the ones of the machine that simulates it.
sudo=$(command -v sudo)
shutdown=$(command -v shutdown || echo shutdown) # on a node, root alone may have it on the PATH
# One long sleep: its length does not depend on the wall clock, so a clock that jumps neither ends
# the cluster early nor lets it live on.
# shellcheck disable=SC2016  # the timer's own shell expands them
setsid nohup bash -c 'sleep "$1"; while [[ -x $2 ]] && ! "$2" "$3" -h now; do sleep 10; done' \
    limit_lifetime "$((minutes * 60))" "$sudo" "$shutdown" </dev/null >/dev/null 2>&1 &
echo $! | sudo tee "$timer" >/dev/null
echo "this cluster ends in $minutes minutes at the latest"
