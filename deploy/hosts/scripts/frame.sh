# shellcheck shell=sh
# Runs a script on a host and makes sure that it ends. channel.py sends this as the first line of standard input
# (base64), then the script's limit in seconds, who asks, and the script (base64), each a line. The rest is the script's
# own input. So none is in an argument list or in the environment, which other users of the host may read.
# Who asks is `PROJECT ENVIRONMENT COMMIT,COMMIT… VERSION NAME` (environment/owner.py), or `-` for whoever may ask any host.
set -eu
IFS= read -r limit
IFS= read -r asking
IFS= read -r script
# What stands before this line is a start-up file's, not the script's.
echo 'portico: begin'
echo 'portico: begin' >&2

# The script gets `name`: what everything of the asking site is called on this host. A host without that site, but with
# sites of others, gets nothing: neither the script nor its input is run or read there.
marks=/etc/portico.d/sites
earlier=/etc/portico-owner
refuse() {
    printf '%s' "$there" | sed 's/^/portico-owner /' >&2
    exit 78
}
find_site() { # PROJECT ENVIRONMENT COMMITS VERSION NAME
    name=$5 mine=
    for mark in "$marks"/* "$earlier"; do
        # That of earlier versions repeats one of the others.
        [ -f "$mark" ] || continue
        [ "$mark" != "$earlier" ] || [ -z "$there" ] || continue
        said=$(grep -v '^#' "$mark" || true)
        there="$there${said:--}
"
        case "$said " in
            "$1 $2 "*)
                mine=$said name=${mark##*/}
                [ "$mark" != "$earlier" ] || name=$1
                ;;
        esac
    done
    if [ -n "$mine" ]; then
        # shellcheck disable=SC2086 # four words
        is_ours "$3" "$4" $mine || refuse
    elif [ -n "$there" ]; then
        refuse
    elif [ -e "/etc/$1/roles" ]; then
        name=$1 # of a version without marks
    fi
}
is_ours() { # COMMITS VERSION PROJECT ENVIRONMENT COMMIT VERSION
    [ "$#" -eq 6 ] && [ "$2" -ge "$6" ] 2>/dev/null || return 1
    [ "$1" = - ] || [ "$5" = - ] || case ",$1," in *",$5,"*) ;; *) return 1 ;; esac
}
name='' there=''
if [ "$asking" != - ]; then
    set -f
    # shellcheck disable=SC2086 # five words
    set -- $asking
    set +f
    find_site "$@"
fi
script=$(printf '%s' "$script" | base64 -d)

# The session's process; 1 means that it has already ended.
session=$PPID
[ "$session" -ne 1 ] || exit 1

# A killed client or a cut cable ends the session's process, but not the processes that it started: they get another
# parent. $$ stays the process id of timeout, which leads the process group of the script.
# The one that watches is in a session of its own, so that it is no member of the group that it waits for: it would keep
# itself for two minutes, and a reboot waiting.
# shellcheck disable=SC2016 # that shell expands it
setsid sh -c '
    while IFS= read -r stat <"/proc/$2/stat" || exit 0; do
        # PROCESS (NAME) STATE PARENT …; see proc_pid_stat(5)
        set -- "$1" "$2" ${stat##*) }
        [ "$4" -eq "$1" ] || break
        sleep 1
    done
    kill -s TERM -- "-$2" || kill -s TERM "$2"
    # A script has time to restore what it changed: its shell handles TERM when the current command has ended.
    for _ in $(seq 120); do
        kill -s 0 -- "-$2" || exit 0 # not `kill -0`: dash takes no group then
        sleep 1
    done
    kill -s KILL -- "-$2"
' - "$session" "$$" </dev/null >/dev/null 2>&1 &

exec timeout -k 120 "$limit" sh /dev/fd/9 9<<END
exec 9<&-; name='$name'; $script
END
