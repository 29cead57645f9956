# shellcheck shell=sh
# Holds a lock as long as the client is alive. Standard input: the lock's file, the holder, then a dot as a heartbeat.
# The system releases the lock when this script ends: at once if the client is killed, and after a minute without a
# heartbeat, such as from a closed laptop.
set -eu
IFS= read -r path
IFS= read -r who
[ -d "${path%/*}" ] || {
    echo "this host is not set up (${path%/*} is missing): run remote-setup" >&2
    exit 1
}
exec 8>>"$path"
if ! flock -n 8; then
    printf 'BUSY %s\n' "$(head -n 1 "$path")"
    exit 0
fi
# On a full disk the name cannot be written; we hold the lock all the same.
printf '%s\n' "$who" >"$path" 2>/dev/null || true
echo HELD
while [ "$(timeout 60 head -c 1 8>&-)" = . ]; do :; done
: >"$path"
