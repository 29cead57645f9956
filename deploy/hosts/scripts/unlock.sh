# shellcheck shell=sh
# Ends whoever holds the lock. Standard input: the lock's file. The lock itself is then free, as always.
set -eu
IFS= read -r lock
if [ ! -e "$lock" ] || flock -n "$lock" true; then
    echo 'free'
    exit 0
fi
for folder in /proc/[0-9]*; do
    [ -r "$folder/fd" ] || continue
    for opened in "$folder"/fd/*; do
        if [ "$(readlink "$opened" 2>/dev/null)" = "$lock" ]; then
            kill -s TERM "${folder#/proc/}" 2>/dev/null || true
        fi
    done
done
if flock -w 10 "$lock" true; then echo 'ended'; else
    echo 'the one who holds it cannot be ended: it is not of this user' >&2
    exit 1
fi
