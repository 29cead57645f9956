# shellcheck shell=sh
# Runs a script on a host and makes sure that it ends. channel.py sends this as the first line of standard input
# (base64), then the script's limit in seconds and the script (base64), each a line. The rest is the script's own input.
# So neither is in an argument list or in the environment, which other users of the host may read.
set -eu
IFS= read -r limit
IFS= read -r script
script=$(printf '%s' "$script" | base64 -d)

# The session's process; 1 means that it has already ended.
session=$PPID
[ "$session" -ne 1 ] || exit 1

# A killed client or a cut cable ends the session's process, but not the processes that it started.
# $$ stays the process id of timeout, which leads the process group of the script.
if kill -0 "$session" 2>/dev/null; then
    (
        trap '' TERM
        while kill -0 "$session"; do
            kill -0 "$$" || exit 0
            sleep 1
        done
        kill -s TERM -- "-$$" || kill -s TERM "$$"
        # A script has time to restore what it changed: its shell handles TERM when the current command has ended.
        for _ in $(seq 120); do
            kill -0 -- "-$$" || exit 0
            sleep 1
        done
        kill -s KILL -- "-$$"
    ) </dev/null >/dev/null 2>&1 &
fi

exec timeout -k 120 "$limit" sh /dev/fd/9 9<<END
exec 9<&-; $script
END
