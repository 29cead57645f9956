# shellcheck shell=sh
# shellcheck disable=SC2154 # frame.sh sets `name`: what the host calls the site
# Stops the lock holder, with everything it runs here: an unfinished deploy restores the host, as after a lost
# connection. Standard input, each a line: the lock's file, and `end`, or `tell` to only name the holder. The lock is
# then released, as always.
set -eu
IFS= read -r lock
IFS= read -r what
case $lock in /*) ;; *) lock=/srv/$name/$lock ;; esac
if [ ! -e "$lock" ] || flock -n "$lock" true; then
    echo 'nobody holds the lock'
    exit 0
fi
if [ "$what" = tell ]; then
    printf 'the lock is held by: %s\n' "$(head -n 1 "$lock")"
    exit 0
fi
lock=$(realpath "$lock") # as the system names what a process has open

# End the connection of a process: the sshd process that serves it, which this user owns.
session() { # PROCESS
    process=$1
    while [ "${process:-0}" -gt 1 ]; do
        case $(cat "/proc/$process/comm" 2>/dev/null) in
            sshd*)
                kill -s TERM "$process" 2>/dev/null || true
                return
                ;;
        esac
        process=$(sed -n 's/^PPid:[[:space:]]*//p' "/proc/$process/status" 2>/dev/null)
    done
}

for folder in /proc/[0-9]*; do
    [ -r "$folder/fd" ] || continue
    for opened in "$folder"/fd/*; do
        if [ "$(readlink "$opened" 2>/dev/null)" = "$lock" ]; then
            session "${folder#/proc/}"
            kill -s TERM "${folder#/proc/}" 2>/dev/null || true
        fi
    done
done
if flock -w 10 "$lock" true; then echo 'the lock holder is stopped'; else
    echo 'cannot stop the lock holder: another user owns its processes' >&2
    exit 1
fi
