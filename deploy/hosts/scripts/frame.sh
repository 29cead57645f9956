# shellcheck shell=sh
# Runs a script on a host and makes sure that it ends. channel.py sends this as the first line of standard input
# (base64), then the script's limit in seconds, who asks, and the script (base64), each a line. The rest is the script's
# own input. So none is in an argument list or in the environment, which other users of the host may read.
# Who asks is `PROJECT ENVIRONMENT COMMIT,COMMIT… VERSION` (environment/owner.py), or `-` for whoever may ask any host.
set -eu
IFS= read -r limit
IFS= read -r asking
IFS= read -r script
# What stands before this line is a start-up file's, not the script's.
echo 'portico: begin'
echo 'portico: begin' >&2

# Another's host gets nothing: neither the script nor its input is run or read there.
mark=/etc/portico-owner
is_ours() { # PROJECT ENVIRONMENT COMMITS VERSION PROJECT ENVIRONMENT COMMIT VERSION
    [ "$#" -eq 8 ] && [ "$1" = "$5" ] && [ "$2" = "$6" ] && [ "$4" -ge "$8" ] || return 1
    [ "$3" = - ] || [ "$7" = - ] || case ",$3," in *",$7,"*) ;; *) return 1 ;; esac
}
if [ "$asking" != - ] && [ -e "$mark" ]; then
    owner=$(grep -v '^#' "$mark" || true)
    set -f
    # shellcheck disable=SC2086 # four words each
    is_ours $asking $owner || {
        printf 'portico-owner %s\n' "$owner" >&2
        exit 78
    }
    set +f
fi
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
