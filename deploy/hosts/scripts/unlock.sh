# shellcheck shell=sh
# Ends whoever holds the lock, with all that they run here: what is half done puts itself back, as when their cable is
# cut. Standard input, each a line: the lock's file, and `end`, or `tell` to say only who that is. The lock itself is
# then free, as always.
set -eu
IFS= read -r lock
IFS= read -r what
if [ ! -e "$lock" ] || flock -n "$lock" true; then
    echo 'nobody holds the lock'
    exit 0
fi
if [ "$what" = tell ]; then
    printf 'the lock is held by: %s\n' "$(head -n 1 "$lock")"
    exit 0
fi
lock=$(realpath "$lock") # as the system names what a process has open

# The connection that a process came by: sshd's own process for it, which is of this user.
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
if flock -w 10 "$lock" true; then echo 'the one who held the lock is ended'; else
    echo 'the one who holds it cannot be ended: it is not of this user' >&2
    exit 1
fi
