# shellcheck shell=sh
# Runs a script on a host and sees to its end. channel.py sends this as the first line of standard input (base64), then
# the seconds that the script has and the script (base64), each a line. What follows is the script's own input.
# So neither is in an argument list or in the environment, where other users of the host may read.
set -eu
IFS= read -r limit
IFS= read -r script
script=$(printf '%s' "$script" | base64 -d)

# The session's process; 1 is what a process gets for a parent whose own has gone already.
session=$PPID
[ "$session" -ne 1 ] || exit 1

# A client that is killed, or a cable that is cut, ends the session's process but not what it started.
# $$ stays the process id of timeout, which leads the group that the script is in.
if kill -0 "$session" 2>/dev/null; then
    (
        trap '' TERM
        while kill -0 "$session"; do
            kill -0 "$$" || exit 0
            sleep 1
        done
        kill -s TERM -- "-$$" || kill -s TERM "$$"
        # One that puts something back has time for that: its shell hears of TERM when the command at hand has ended.
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
