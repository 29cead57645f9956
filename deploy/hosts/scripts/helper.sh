#!/bin/sh
# shellcheck shell=sh
# All that the deploy user may do as root, as `sudo -n /usr/local/sbin/NAME-helper VERB …`:
#
#   start web|worker|beat REL [later]   start a unit, wait until it is ready; else the journal of this start, and exit 1
#   stop KIND REL [now|later]           stop a unit and forget a failure; `later` does not wait
#   migrate REL                         apply a release's migrations; else the journal's last lines, and exit 1
#   journal KIND REL LINES              the last lines of a unit, 1 to 1000
#   units                               KIND REL STATE of each unit that is not inactive; `manage` is a kind here, too
#   manage REL [WORDS…]                 manage.py of a release, as the site's user, in its sandbox
#   backup REL                          a copy of the database, on its host; prints the path
#   boot                                start the current release's units, and do not wait
#
# KIND is web, worker, beat or release. Whoever calls this may be an attacker: each argument is compared with a strict
# pattern before anything is done, and nothing that the deploy user can write is followed, read or run by root.
# Exit code 64: an argument is none of these.
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

# A command, with nothing of the caller's environment: it could name a pager, for one.
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
    is_release "$1" || wrong "that is no release"
}

require_kind() {
    case $1 in
        web | worker | beat | release) ;;
        *) wrong "that is no kind of unit" ;;
    esac
}

require_when() {
    case $1 in
        now | later) ;;
        *) wrong "now or later" ;;
    esac
}

# Our name is in our file's, which only root can write; sudo runs us by it, whatever the caller wrote.
case $0 in
    /usr/local/sbin/*-helper) ;;
    *) wrong "is run from /usr/local/sbin only" ;;
esac
name=${0#/usr/local/sbin/}
name=${name%-helper}
case $name in
    [!a-z]* | *[!a-z0-9_-]* | "") wrong "has a strange name" ;;
esac
[ "$(id -u)" -eq 0 ] || wrong "needs root: sudo -n $0"

# What a unit has said since a moment (seconds of the epoch), its last lines.
said() {
    # On a busy host, what a process wrote reaches the journal after systemd's own word that it has ended.
    for _ in 1 2 3 4 5 6 7 8 9 10; do
        clean journalctl --sync || true
        [ -z "$(clean journalctl --no-pager --quiet --output cat --since "@$2" "_SYSTEMD_UNIT=$1" </dev/null)" ] || break
        sleep 0.5
    done
    # Not `--lines`: with --since, systemd 252 shows the first lines then, and the reason is in the last. So many, as the
    # name of a migration that failed stands above two tracebacks.
    clean journalctl --no-pager --quiet --output cat --since "@$2" --unit "$1" </dev/null | tail -n 200
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
    unit=$name-$1@$2.service
    if [ "$3" = later ]; then
        exec env -i PATH="$PATH" systemctl --quiet --no-block start "$unit" </dev/null
    fi
    since=$(date +%s)
    clean systemctl --quiet start "$unit" </dev/null 2>/dev/null && return
    said "$unit" "$since"
    # It would be started again and again.
    clean systemctl --quiet stop "$unit" </dev/null 2>/dev/null || true
    clean systemctl --quiet reset-failed "$unit" </dev/null 2>/dev/null || true
    exit 1
}

stop() {
    unit=$name-$1@$2.service
    code=0
    if [ "$3" = later ]; then
        clean systemctl --quiet --no-block stop "$unit" </dev/null || code=1
    else
        clean systemctl --quiet stop "$unit" </dev/null || code=1
    fi
    # There is nothing to forget of a unit that is not loaded.
    clean systemctl --quiet reset-failed "$unit" </dev/null 2>/dev/null || true
    exit "$code"
}

migrate() {
    unit=$name-release@$1.service
    since=$(date +%s)
    clean systemctl --quiet start "$unit" </dev/null 2>/dev/null && return
    said "$unit" "$since"
    clean systemctl --quiet reset-failed "$unit" </dev/null 2>/dev/null || true
    exit 1
}

units() {
    # Not in a pipeline: a list that cannot be had must not look like an empty one.
    listed=$(clean systemctl list-units --all --plain --full --no-legend --no-pager \
        --type service "$name-*@*.service" </dev/null) || exit 1
    while read -r unit _ active _; do
        unit=${unit#"$name"-}
        unit=${unit%.service}
        kind=${unit%%@*}
        case $kind in
            web | worker | beat | release) ;;
            manage) unit=${unit%:*} ;;
            *) continue ;;
        esac
        if is_release "${unit#*@}" && [ "$active" != inactive ]; then
            echo "$kind ${unit#*@} $active"
        fi
    done <<END
$listed
END
}

# The word with each $ twice: systemd would put a variable's value there.
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
    # The terminal's colours and title are the caller's own.
    exec env -i PATH="$PATH" LC_ALL=C.UTF-8 TERM="${TERM:-dumb}" \
        SYSTEMD_TINT_BACKGROUND=0 SYSTEMD_ADJUST_TERMINAL_TITLE=0 \
        systemd-run --quiet --wait --collect --unit "$name-manage@$release:$$" --description "manage.py of $release" "$@"
}

backup() {
    has_role database || wrong "the database is not on this host"
    folder=/var/backups/$name
    file=$folder/$(date -u +%Y%m%d-%H%M%S)-before-$1.dump
    # What a copy that was cut off has left.
    rm -f "$folder"/.*.part
    trap 'rm -f "$folder/.$$.part"' EXIT
    if ! clean runuser -u postgres -- pg_dump --format custom --no-password site </dev/null >"$folder/.$$.part"; then
        echo "helper: the database cannot be copied to $folder" >&2
        exit 1
    fi
    sync "$folder/.$$.part"
    mv "$folder/.$$.part" "$file"
    trap - EXIT
    # The names are in the order of time.
    set -- "$folder"/*-before-*.dump
    while [ $# -gt 10 ]; do
        rm -f "$1"
        shift
    done
    echo "$file"
}

boot() {
    current=/srv/$name/state/current
    before=/srv/$name/state/before
    # A deploy that died with this machine had flipped to a release that nobody committed: its owner takes that back.
    if [ -L "$before" ]; then
        clean runuser -u "$(stat -c %U "/srv/$name/state")" -- mv -T "$before" "$current" || true
    fi
    [ -L "$current" ] || return 0
    release=$(readlink "$current")
    case $release in
        ../releases/*) ;;
        *) wrong "$current leads to no release" ;;
    esac
    release=${release#../releases/}
    require_release "$release"
    for kind in web worker beat; do
        if has_role "$kind"; then
            clean systemctl --quiet --no-block start "$name-$kind@$release.service" </dev/null
        fi
    done
}

verb=${1:-}
[ $# -eq 0 ] || shift
case $verb in
    start)
        [ $# -eq 2 ] || [ $# -eq 3 ] || wrong "start KIND RELEASE [now|later]"
        require_kind "$1"
        [ "$1" != release ] || wrong "that is what migrate does"
        require_release "$2"
        require_when "${3-now}"
        start "$1" "$2" "${3-now}"
        ;;
    stop)
        [ $# -eq 2 ] || [ $# -eq 3 ] || wrong "stop KIND RELEASE [now|later]"
        require_kind "$1"
        require_release "$2"
        require_when "${3-now}"
        stop "$1" "$2" "${3-now}"
        ;;
    migrate)
        [ $# -eq 1 ] || wrong "migrate RELEASE"
        require_release "$1"
        migrate "$1"
        ;;
    journal)
        [ $# -eq 3 ] || wrong "journal KIND RELEASE LINES"
        require_kind "$1"
        require_release "$2"
        case $3 in
            [1-9] | [1-9][0-9] | [1-9][0-9][0-9] | 1000) ;;
            *) wrong "1 to 1000 lines" ;;
        esac
        clean journalctl --no-pager --quiet --output cat --lines "$3" --unit "$name-$1@$2.service" </dev/null
        ;;
    units)
        [ $# -eq 0 ] || wrong "units takes no arguments"
        units
        ;;
    manage)
        [ $# -ge 1 ] || wrong "manage RELEASE [WORDS]"
        require_release "$1"
        manage "$@"
        ;;
    backup)
        [ $# -eq 1 ] || wrong "backup RELEASE"
        require_release "$1"
        backup "$1"
        ;;
    boot)
        [ $# -eq 0 ] || wrong "boot takes no arguments"
        boot
        ;;
    *) wrong "start, stop, migrate, journal, units, manage, backup or boot" ;;
esac
