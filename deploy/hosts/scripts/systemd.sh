# shellcheck shell=sh
# shellcheck disable=SC2317,SC2329 # the scripts after this one call it
# Asks systemd again, for some seconds, when it goes away meanwhile. It is sent before scripts that call systemctl.

# Whether systemctl says that systemd went away: an upgrade of systemd replaces it (daemon-reexec).
is_away() { # WHAT IT SAYS
    case $1 in
        *onnection\ reset* | *onnection\ terminated* | *onnection\ refused* | *onnection\ timed\ out*) return 0 ;;
        *'Transport endpoint'* | *' to bus'* | *'message bus'* | *'emote peer'* | *D-Bus*) return 0 ;;
    esac
    return 1
}

# Its standard output is systemctl's, also of a try that failed. A subshell: no variable of the caller changes.
systemctl() (
    tries=10
    while :; do
        code=0
        { said=$(command systemctl "$@" 2>&1 >&4 4>&-) || code=$?; } 4>&1
        tries=$((tries - 1))
        if [ "$code" -eq 0 ] || [ "$tries" -eq 0 ] || ! is_away "$said"; then break; fi
        sleep 1
    done
    [ -z "$said" ] || printf '%s\n' "$said" >&2
    exit "$code"
)
