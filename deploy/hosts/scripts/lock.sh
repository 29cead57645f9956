# shellcheck shell=sh
# shellcheck disable=SC2154 # frame.sh sets `name`: what the host calls the site
# Holds a lock as long as the client is alive. Standard input: the lock's file, the holder, the entry of a deploy for the
# ledger (the inner part of a JSON object; empty for none), each a line, then a dot as a heartbeat.
# The system releases the lock when this script ends: at once if the client is killed, and after a minute without a
# heartbeat, such as from a closed laptop. A path that is not absolute is in the site's folder.
set -eu
IFS= read -r path
IFS= read -r who
IFS= read -r entry
case $path in /*) ;; *) path=/srv/$name/$path ;; esac
state=${path%/*}
[ -d "$state" ] || {
    echo "this host is not set up ($state is missing): run remote-setup" >&2
    exit 1
}
exec 8>>"$path"
if ! flock -n 8; then
    printf 'BUSY %s\n' "$(head -n 1 "$path")"
    exit 0
fi
# On a full disk the name cannot be written; we hold the lock all the same.
printf '%s\n' "$who" >"$path" 2>/dev/null || true

# `begun` has the entry of a deploy until the ledger says how that ended. What is being activated or restored at this
# moment says that itself.
ended() { # WHY
    [ -s "$state/begun" ] && flock -n "$state/activating" true || return 0
    printf '{"at": "%s", %s, "outcome": "ended early: %s; a migration may have been applied"}\n' \
        "$(date -u +%Y-%m-%dT%H:%M:%SZ)" "$(cat "$state/begun")" "$1" >>"$state/ledger.jsonl" && rm -f "$state/begun"
}
over() {
    trap '' TERM HUP INT PIPE
    ended 'its client was gone' 2>/dev/null || true
    : >"$path"
}
ended 'this host restarted, or lost its client' 2>/dev/null || true
[ -z "$entry" ] || printf '%s\n' "$entry" >"$state/begun" 2>/dev/null || true
trap over EXIT
trap 'exit 1' TERM HUP INT PIPE
echo HELD
while [ "$(timeout 60 head -c 1 8>&-)" = . ]; do :; done
