#!/bin/sh
# shellcheck shell=sh
# Everything that the deploy user may do as root, as `sudo -n /usr/local/sbin/NAME-helper VERB …`:
#
#   start KIND REL [later]              start a unit and wait until it is ready; on failure print its journal, exit 1
#   restart KIND REL                    start a unit again, also if it does not run, and wait until it is ready
#   stop KIND REL [now|later]           stop a unit and reset its failed state; `later` does not wait
#   migrate REL                         apply a release's migrations; on failure print the journal's last lines, exit 1
#   journal KIND REL LINES              print the last lines of a unit, 1 to 1000
#   log LINES SINCE                     print the last entries of the site's units as JSON, the latest first
#   follow SINCE                        print entries as they come, until standard input ends
#   units                               KIND REL STATE of each unit that is not inactive; `manage` is a kind here, too
#   manage REL [WORDS…]                 run manage.py of a release, as the site's user, in its sandbox
#   backup REL                          copy the database, on its host; prints the path
#   snapshot asked|migration|verify     start the unit of a backup, or of the proof of the last one
#   backups                             print what the repository has, without its secrets
#   boot                                start the current release's units without waiting
#
# KIND is web, twin (a second web unit, while that restarts), worker, worker_NAME, beat or release (which `migrate`
# starts). The caller may be an attacker: each argument is compared with a strict pattern before anything is done, and
# root follows, reads or runs nothing that the deploy user can write.
# Exit code 64: an invalid argument.
set -eu
PATH=/usr/sbin:/usr/bin:/sbin:/bin
LC_ALL=C
export PATH LC_ALL
umask 077
cd /

wrong() {
    echo "helper: $1" >&2
    exit 64
}

# Run a command without the caller's environment, which could name a pager, for example.
clean() {
    env -i PATH="$PATH" LC_ALL=C.UTF-8 "$@"
}

is_release() {
    case $1 in
        [0-9][0-9][0-9][0-9][0-9][0-9][0-9][0-9]-[0-9][0-9][0-9][0-9][0-9][0-9]-*) ;;
        *) return 1 ;;
    esac
    commit=${1#????????-??????-}
    case $commit in
        *[!0-9a-f]*) return 1 ;;
    esac
    [ "${#commit}" -ge 7 ] && [ "${#commit}" -le 12 ]
}

require_release() {
    is_release "$1" || wrong "that is not a release"
}

# Whether a word is a kind of workers: worker, or worker_NAME.
is_worker() {
    case $1 in
        worker) return 0 ;;
        worker_[a-z]*) ;;
        *) return 1 ;;
    esac
    case ${1#worker_} in
        *[!a-z0-9_]*) return 1 ;;
    esac
    [ "${#1}" -le 37 ]
}

require_kind() {
    case $1 in
        web | twin | beat | release) ;;
        *) is_worker "$1" || wrong "that is not a kind of unit: web, twin, worker, worker_NAME, beat or release" ;;
    esac
}

# All kinds of workers have one template: their name is the first part of the instance.
unit_of() {
    case $1 in
        worker_*) unit=$name-worker@${1#worker_}:$2.service ;;
        twin) unit=$name-web@twin-$2.service ;;
        *) unit=$name-$1@$2.service ;;
    esac
}

require_when() {
    case $1 in
        now | later) ;;
        *) wrong "must be now or later" ;;
    esac
}

# Any time (-), some seconds ago, or @ and the seconds since the epoch, with their fraction.
require_moment() {
    case $1 in
        -) return ;;
        @*) moment=${1#@} ;;
        *) moment=$1.0 ;;
    esac
    case $moment in
        *[!0-9.]* | .* | *. | *.*.*) wrong "that is not a time" ;;
    esac
    [ "${#moment}" -le 20 ] || wrong "that is not a time"
}

# The project's name is part of this file's name, which only root can change; sudo sets $0, whatever the caller wrote.
case $0 in
    /usr/local/sbin/*-helper) ;;
    *) wrong "must be run from /usr/local/sbin" ;;
esac
name=${0#/usr/local/sbin/}
name=${name%-helper}
case $name in
    [!a-z]* | *[!a-z0-9_-]* | "") wrong "has an invalid name" ;;
esac
[ "$(id -u)" -eq 0 ] || wrong "needs root: sudo -n $0"

# Whether systemctl says that systemd went away: an upgrade of systemd replaces it (daemon-reexec).
is_away() { # WHAT IT SAYS
    case $1 in
        *onnection\ reset* | *onnection\ terminated* | *onnection\ refused* | *onnection\ timed\ out*) return 0 ;;
        *'Transport endpoint'* | *' to bus'* | *'message bus'* | *'emote peer'* | *D-Bus*) return 0 ;;
    esac
    return 1
}

# Run systemctl; again, for some seconds, if systemd went away meanwhile. systemd.sh does the same for other scripts.
control() {
    for _ in 1 2 3 4 5 6 7 8 9 10; do
        if said=$(clean systemctl --quiet "$@" </dev/null 2>&1); then
            [ -z "$said" ] || printf '%s\n' "$said"
            return 0
        fi
        is_away "$said" || break
        sleep 1
    done
    printf '%s\n' "$said" >&2
    return 1
}

# Print the last lines of a unit's journal since a time (seconds since the epoch).
said() {
    # On a busy host, the output of a process reaches the journal after systemd has reported its end.
    for _ in 1 2 3 4 5 6 7 8 9 10; do
        clean journalctl --sync || true
        [ -z "$(clean journalctl --no-pager --quiet --output cat --since "@$2" "_SYSTEMD_UNIT=$1" </dev/null)" ] || break
        sleep 0.5
    done
    # Not `--lines`: with --since, systemd 252 then shows the first lines, but the reason is in the last ones. 200 of
    # them, as the name of a failed migration is above two tracebacks.
    clean journalctl --no-pager --quiet --output cat --since "@$2" --unit "$1" </dev/null | tail -n 200
}

# What the site's units say, and what systemd says of them: journalctl's words, and the pattern of what is theirs.
# It is not asked by unit: a release that is deployed while a log is followed has units that are new.
read_log() { # SINCE WORDS…
    case $1 in
        -) ;;
        @*) set -- "$@" --since "$1" ;;
        *) set -- "$@" --since "-${1}s" ;;
    esac
    shift
    prefix=$(printf %s "$name" | sed 's/-/\\x2d/g') # as systemd escapes it
    for kind in web worker beat release backup; do
        set -- "$@" "_SYSTEMD_SLICE=system-$prefix\\x2d$kind.slice" +
    done
    # shellcheck disable=SC2016 # that shell expands it
    setsid env -i PATH="$PATH" LC_ALL=C.UTF-8 sh -c '
        pattern=$1 most=$2
        shift 2
        journalctl --no-pager --quiet --all --output json "$@" |
            if [ "$most" = - ]; then grep --line-buffered -E "$pattern"; else grep -m "$most" -E "$pattern"; fi
    ' - "\"(UNIT|_SYSTEMD_UNIT)\":\"$name-(web|worker|beat|release|backup)@" "$most" \
        --output-fields=MESSAGE,UNIT,_SYSTEMD_UNIT "$@" _PID=1 </dev/null &
    shown=$!
}

has_role() {
    roles=
    read -r roles <"/etc/$name/roles" || true
    case " $roles " in
        *" $1 "*) ;;
        *) return 1 ;;
    esac
}

start() {
    unit_of "$1" "$2"
    if [ "$3" = later ]; then
        control --no-block start "$unit" || exit 1
        return
    fi
    bring start
}

# Start or restart the unit, and wait until it is ready; else print its journal and exit with 1.
bring() { # start, or restart
    since=$(date +%s)
    control "$1" "$unit" 2>/dev/null && return
    said "$unit" "$since"
    # Otherwise systemd would keep restarting it.
    clean systemctl --quiet stop "$unit" </dev/null 2>/dev/null || true
    clean systemctl --quiet reset-failed "$unit" </dev/null 2>/dev/null || true
    exit 1
}

stop() {
    unit_of "$1" "$2"
    code=0
    if [ "$3" = later ]; then
        control --no-block stop "$unit" || code=1
    else
        control stop "$unit" || code=1
    fi
    # This fails for a unit that is not loaded, which has no failed state.
    clean systemctl --quiet reset-failed "$unit" </dev/null 2>/dev/null || true
    exit "$code"
}

migrate() {
    unit=$name-release@$1.service
    since=$(date +%s)
    control start "$unit" 2>/dev/null && return
    said "$unit" "$since"
    clean systemctl --quiet reset-failed "$unit" </dev/null 2>/dev/null || true
    exit 1
}

units() {
    # Not in a pipeline: a failure to list the units must not look like an empty list.
    listed=$(control list-units --all --plain --full --no-legend --no-pager --type service "$name-*@*.service") || exit 1
    while read -r unit _ active _; do
        unit=${unit#"$name"-}
        unit=${unit%.service}
        kind=${unit%%@*}
        case $unit in
            web@twin-*)
                kind=twin
                unit=web@${unit#web@twin-}
                ;;
            web@* | beat@* | release@*) ;;
            worker@*:*)
                kind=${unit#worker@}
                kind=worker_${kind%%:*}
                is_worker "$kind" || continue
                unit=worker@${unit#*:}
                ;;
            worker@*) ;;
            manage@*) unit=${unit%:*} ;;
            *) continue ;;
        esac
        if is_release "${unit#*@}" && [ "$active" != inactive ]; then
            echo "$kind ${unit#*@} $active"
        fi
    done <<END
$listed
END
}

# Double each $ of the word: systemd would expand variables.
without_variables() {
    rest=$1
    word=
    while :; do
        case $rest in
            *\$*) ;;
            *) break ;;
        esac
        word=$word${rest%%\$*}\$\$
        rest=${rest#*\$}
    done
    word=$word$rest
}

manage() {
    release=$1
    shift
    for each in "$@"; do
        without_variables "$each"
        shift
        set -- "$@" "$word"
    done
    count=$#
    while IFS= read -r line; do
        case $line in
            "" | "#"*) ;;
            *) set -- "$@" --property "$line" ;;
        esac
    done <"/usr/local/lib/$name/sandbox"
    set -- "$@" -- "/usr/local/lib/$name/launch" "$release" manage
    while [ "$count" -gt 0 ]; do
        set -- "$@" "$1"
        shift
        count=$((count - 1))
    done
    if [ -t 0 ] && [ -t 1 ]; then
        set -- --pty "$@"
    else
        set -- --pipe "$@"
    fi
    case ${TERM:-dumb} in
        *[!a-z0-9-]*) TERM=dumb ;;
    esac
    # Leave the terminal's colours and title to the caller.
    exec env -i PATH="$PATH" LC_ALL=C.UTF-8 TERM="${TERM:-dumb}" \
        SYSTEMD_TINT_BACKGROUND=0 SYSTEMD_ADJUST_TERMINAL_TITLE=0 \
        systemd-run --quiet --wait --collect --unit "$name-manage@$release:$$" --description "manage.py of $release" "$@"
}

# Make a backup as its unit does, or prove the last one. What stays, and what goes, is decided by age: nobody who can
# call this shortens anything.
snapshot() {
    unit=$name-backup@$1.service
    bring start
}

boot() {
    current=/srv/$name/state/current
    before=/srv/$name/state/before
    # A deploy that was interrupted by the reboot has flipped to a release that was not committed: revert, as its owner.
    if [ -L "$before" ]; then
        clean runuser -u "$(stat -c %U "/srv/$name/state")" -- mv -T "$before" "$current" || true
    fi
    [ -L "$current" ] || return 0
    release=$(readlink "$current")
    case $release in
        ../releases/*) ;;
        *) wrong "$current does not link to a release" ;;
    esac
    release=${release#../releases/}
    require_release "$release"
    # A restart that was interrupted by the reboot has led nginx to an instance that no longer runs.
    clean runuser -u "$(stat -c %U "/srv/$name/state")" -- \
        ln -sfn "/run/$name/web-$release/sock" "/srv/$name/releases/$release/web.sock" || true
    for role in web worker beat; do
        has_role "$role" || continue
        kinds=$role
        [ "$role" != worker ] || workers_of "$release"
        for kind in $kinds; do
            unit_of "$kind" "$release"
            control --no-block start "$unit" || true
        done
    done
}

# Set `kinds` to those of a release's workers on this host. Its file belongs to the deploy user, who alone reads it.
workers_of() {
    said=$(clean timeout 10 runuser -u "$(stat -c %U "/srv/$name/state")" -- \
        sed -n '/^PORTICO_WORKERS=/{s/^PORTICO_WORKERS=//p;q}' "/srv/$name/releases/$1/env" </dev/null) || said=worker
    rest="${said:-worker},"
    kinds=
    while [ -n "$rest" ]; do
        word=${rest%%,*}
        rest=${rest#*,}
        ! is_worker "$word" || kinds="$kinds $word"
    done
}

verb=${1:-}
[ $# -eq 0 ] || shift
case $verb in
    start)
        [ $# -eq 2 ] || [ $# -eq 3 ] || wrong "usage: start KIND RELEASE [now|later]"
        require_kind "$1"
        [ "$1" != release ] || wrong "use migrate to start a unit of the kind release"
        require_release "$2"
        require_when "${3-now}"
        start "$1" "$2" "${3-now}"
        ;;
    restart)
        [ $# -eq 2 ] || wrong "usage: restart KIND RELEASE"
        require_kind "$1"
        [ "$1" != release ] || wrong "use migrate to start a unit of the kind release"
        require_release "$2"
        unit_of "$1" "$2"
        bring restart
        ;;
    stop)
        [ $# -eq 2 ] || [ $# -eq 3 ] || wrong "usage: stop KIND RELEASE [now|later]"
        require_kind "$1"
        require_release "$2"
        require_when "${3-now}"
        stop "$1" "$2" "${3-now}"
        ;;
    migrate)
        [ $# -eq 1 ] || wrong "usage: migrate RELEASE"
        require_release "$1"
        migrate "$1"
        ;;
    journal)
        [ $# -eq 3 ] || wrong "usage: journal KIND RELEASE LINES"
        require_kind "$1"
        require_release "$2"
        case $3 in
            [1-9] | [1-9][0-9] | [1-9][0-9][0-9] | 1000) ;;
            *) wrong "LINES must be 1 to 1000" ;;
        esac
        unit_of "$1" "$2"
        clean journalctl --no-pager --quiet --output cat --lines "$3" --unit "$unit" </dev/null
        ;;
    log)
        [ $# -eq 2 ] || wrong "usage: log LINES SINCE"
        case $1 in
            [1-9] | [1-9][0-9] | [1-9][0-9][0-9] | [1-9][0-9][0-9][0-9] | 10000) ;;
            *) wrong "LINES must be 1 to 10000" ;;
        esac
        require_moment "$2"
        most=$1
        read_log "$2" --reverse
        wait "$shown" || true # grep's, which found nothing
        ;;
    follow)
        [ $# -eq 1 ] || wrong "usage: follow SINCE"
        require_moment "$1"
        most=-
        read_log "$1" --follow --no-tail
        # The client may be gone at any moment, while nothing is said that would tell us.
        cat >/dev/null || true
        # Its group, or the process that does not lead it yet.
        for target in "-$shown" "$shown" "-$shown"; do
            kill -s TERM -- "$target" 2>/dev/null || true
        done
        ;;
    units)
        [ $# -eq 0 ] || wrong "units takes no arguments"
        units
        ;;
    manage)
        [ $# -ge 1 ] || wrong "usage: manage RELEASE [WORDS]"
        require_release "$1"
        manage "$@"
        ;;
    backup)
        [ $# -eq 1 ] || wrong "usage: backup RELEASE"
        require_release "$1"
        has_role database || wrong "the database is not on this host"
        exec env -i PATH="$PATH" LC_ALL=C.UTF-8 "/usr/local/lib/$name/backup" copy "$1"
        ;;
    snapshot)
        case "$#${1-}" in
            1asked | 1migration | 1verify) snapshot "$1" ;;
            *) wrong "usage: snapshot asked|migration|verify" ;;
        esac
        ;;
    backups)
        [ $# -eq 0 ] || wrong "backups takes no arguments"
        exec env -i PATH="$PATH" LC_ALL=C.UTF-8 "/usr/local/lib/$name/backup" list
        ;;
    boot)
        [ $# -eq 0 ] || wrong "boot takes no arguments"
        boot
        ;;
    *) wrong "VERB must be start, restart, stop, migrate, journal, log, follow, units, manage, backup, snapshot, backups or boot" ;;
esac
