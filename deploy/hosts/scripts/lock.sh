# shellcheck shell=sh
# Holds a lock for as long as the client lives. Standard input: the lock's file, who holds it, then a dot now and then.
# The system frees the lock when this ends: at once when the client is killed, and when no dot comes for a minute, as
# from a laptop that was closed.
set -eu
IFS= read -r path
IFS= read -r who
[ -d "${path%/*}" ] || {
    echo "there is no ${path%/*} on this host: run remote-setup" >&2
    exit 1
}
exec 8>>"$path"
if ! flock -n 8; then
    printf 'BUSY %s\n' "$(head -n 1 "$path")"
    exit 0
fi
# A full disk does not take the name; the lock is ours all the same.
printf '%s\n' "$who" >"$path" 2>/dev/null || true
echo HELD
while [ "$(timeout 60 head -c 1 8>&-)" = . ]; do :; done
: >"$path"
