# shellcheck shell=sh
# shellcheck disable=SC2034,SC2154 # site.sh uses probes and entry; frame.sh sets `name`
# Activates a release on this host in step with the other hosts, or restores the previous one.
#
# Standard input: the values below, each a line; then commands, each of which is answered: `workers` (wait until they
# are ready), `flip`, `beat`, `part` (stop the old workers of which there must never be two), `alone` (start the new ones
# of these), `hold` (do you still take part?), `commit` or `back`. A dot now and then is the client's heartbeat: if the
# client disconnects, this host is restored.
# Standard output: `= WORD` when a command is done, `! WHY` when it has failed, `| LINE` of a journal.
set -eu
IFS= read -r release
IFS= read -r host           # a host name of the site
IFS= read -r scheme         # the scheme of clients' requests
IFS= read -r probes         # space-separated paths that must answer
IFS= read -r entry          # for the ledger: the inner part of a JSON object
IFS= read -r leave          # not empty: the current release is rolled back, and later rollbacks skip it
IFS= read -r hook           # a command to run in the release once it serves, base64; empty for none

srv=/srv/$name
state=$srv/state
roles=" $(cat "/etc/$name/roles") "
#: Seconds without a heartbeat after which the client counts as disconnected; less than the lock's.
silence=40

has() { case $roles in *" $1 "*) ;; *) return 1 ;; esac; }
kinds() { sed -n "s/^$1=//p" "$srv/releases/$release/env" | tr -d "'" | tr , ' '; }
among() { case " $2 " in *" $1 "*) ;; *) return 1 ;; esac; } # WORD, WORDS
serving() { link=$(readlink "$state/current" || true) && printf '%s' "${link##*/}"; }

# An interrupted deploy may still be restoring this host, although its client's lock is free.
exec 8>>"$state/activating"
flock -w 150 8 || {
    echo '! another deploy is still restoring this host; run the command again'
    exit 1
}
# A flip creates `before`, which exists until the release is committed. If it exists now, a deploy crashed: restore it.
[ ! -L "$state/before" ] || mv -T "$state/before" "$state/current"
old=$(serving)
old_beat=$(helper units | sed -n '/^beat .* deactivating$/d; s/^beat \([^ ]*\) .*/\1/p' | head -n 1)
started='' beat_moved='' parted='' joined=''
# The kinds of units of this release's workers: of which there must never be two, on any host; of this host, the others
# (`beside`), which start beside the old ones, and those (`lone`). A release of an earlier version names none.
alone=$(kinds PORTICO_ALONE) beside='' lone=''
if has worker; then
    workers=$(kinds PORTICO_WORKERS)
    [ -n "$workers" ] || grep -q '^PORTICO_WORKERS=' "$srv/releases/$release/env" || workers=worker
    for kind in $workers; do
        if among "$kind" "$alone"; then lone="$lone $kind"; else beside="$beside $kind"; fi
    done
fi

flip() { # a rename, so that each request reaches either the old release or the new one
    [ "$old" != "$release" ] || return 0
    { [ -z "$old" ] || ln -sfn "../releases/$old" "$state/before"; } &&
        ln -sfn "../releases/$release" "$state/.current" &&
        mv -T "$state/.current" "$state/current"
}

# The most important steps come first. Returns 1 if the link cannot be restored, so that the release keeps running.
restore() { # WHY
    trap '' TERM HUP INT PIPE
    trap - EXIT
    set +e
    record "$1"
    [ "$old" != "$release" ] || return 0 # it was the current release before
    if [ "$(serving)" != "$release" ]; then
        rm -f "$state/before"
    elif [ -n "$old" ]; then
        mv -T "$state/before" "$state/current"
    else
        rm -f "$state/current"
    fi
    [ "$(serving)" != "$release" ] || return 1
    if [ -n "$beat_moved" ]; then
        helper stop beat "$release" now
        [ -z "$old_beat" ] || helper start beat "$old_beat" later
    fi
    if [ -n "$started" ]; then
        for kind in $beside; do helper stop "$kind" "$release" later; done
        if has web; then
            drain "$release"
            helper stop web "$release" later
        fi
    fi
    # Last: each waits until the task that it runs has ended.
    if [ -n "$joined" ]; then
        for kind in $lone; do helper stop "$kind" "$release" now; done
    fi
    for each in $parted; do helper start "${each%@*}" "${each#*@}" later; done
    return 0
}

fail() { # WHY
    trap '' TERM HUP INT PIPE
    printf '! %s\n' "$1" || exec >/dev/null
    restore "failed: $1" >/dev/null 2>&1 ||
        printf '! %s; and cannot restore %s: %s keeps running\n' "$1" "$state/current" "$release"
    exit 1
}

interrupted() { # WHY
    exec >/dev/null 2>&1
    restore "put back: $1"
    exit 1
}
trap 'interrupted "the client disconnected"' TERM HUP INT PIPE
trap 'interrupted "the script ended unexpectedly"' EXIT

start() { # KIND
    # A worker of this release that still runs a task, such as after a rollback, is started again as soon as it has
    # ended. A web unit that still answers a request must end first, as nothing else can answer in its place.
    if [ "${1#worker}" != "$1" ] && helper units | grep -q "^$1 $release deactivating"; then
        helper start "$1" "$release" later
    elif ! said=$(helper start "$1" "$release" now 2>&1); then
        printf '%s\n' "$said" | tail -n 20 | sed 's/^/| /'
        fail "$1 of $release does not start"
    fi
}

# Check that the next steps are possible, while the host can still be restored.
require_helper() {
    helper units >/dev/null || fail 'its helper cannot be run: sudo refuses, or systemd does not answer'
}

next_command() {
    # shellcheck disable=SC2016 # the inner shell expands it
    while word=$(timeout "$silence" sh -c 'IFS= read -r word && printf %s "$word"' 8>&-); do
        [ "$word" = . ] || return 0
    done
    interrupted 'the client disconnected'
}

# --- Start the new units beside the old ones.

started=1
for kind in $beside; do
    helper start "$kind" "$release" later || fail "$kind cannot be started: run remote-setup, then this again"
done
if has web; then
    start web
    probe 'its own socket' http://localhost --unix-socket "/run/$name/web-$release/sock" \
        -H "Host: $host" -H 'X-Forwarded-Proto: https'
    # A restart that was killed may have left the way to the second instance.
    [ "$(readlink "$srv/releases/$release/web.sock")" = "/run/$name/web-$release/sock" ] ||
        way_to "$release" || fail "cannot write $srv/releases/$release/web.sock"
fi
echo '= STARTED'

while next_command; do
    case $word in
    hold)
        require_helper
        echo '= HELD'
        ;;
    workers)
        for kind in $beside; do start "$kind"; done
        echo '= WORKERS'
        ;;
    flip)
        if ! has beat && [ -n "$old_beat" ]; then # that role has moved to another host
            beat_moved=1
            helper stop beat "$old_beat" now || fail "the old beat does not stop"
        fi
        said=$(flip 2>&1) || fail "cannot write $state/current: $(printf '%s\n' "$said" | tail -n 1)"
        if has web; then
            probe 'through nginx' "$scheme://$host" --insecure \
                --resolve "$host:80:127.0.0.1" --resolve "$host:443:127.0.0.1"
        fi
        echo '= FLIPPED'
        ;;
    beat) # a late beat is better than two
        beat_moved=1
        running=$(helper units) || fail 'cannot list its units'
        for other in $(printf '%s\n' "$running" | sed -n 's/^beat \([^ ]*\) .*/\1/p'); do
            [ "$other" = "$release" ] || helper stop beat "$other" now || fail "beat of $other does not stop"
        done
        start beat
        echo '= BEAT'
        ;;
    part)
        running=$(helper units) || fail 'cannot list its units'
        for kind in $alone; do
            for other in $(printf '%s\n' "$running" | sed -n "s/^$kind \([^ ]*\) .*/\1/p"); do
                [ "$other" != "$release" ] || ! among "$kind" "$lone" || continue
                printf '%s\n' "$running" | grep -q "^$kind $other deactivating" || parted="$parted $kind@$other"
                helper stop "$kind" "$other" now || fail "$kind of $other does not stop"
            done
        done
        echo '= PARTED'
        ;;
    alone)
        joined=1
        for kind in $lone; do start "$kind"; done
        echo '= ALONE'
        ;;
    commit)
        require_helper
        break
        ;;
    *)
        restore "put back: ${word#back }" >/dev/null 2>&1 || {
            echo "! cannot restore $state/current: $release keeps running"
            exit 1
        }
        echo '= BACK'
        exit 0
        ;;
    esac
done

# --- The release serves. The old units finish in their own time; from here on nothing interrupts this script.

trap '' TERM HUP INT PIPE
trap - EXIT
set +e
rm -f "$state/before"
# The time of `served` decides which release a rollback goes to, and which are kept; those with `left` come last.
touch "$srv/releases/$release/served" && rm -f "$srv/releases/$release/left"
[ -z "$leave" ] || [ -z "$old" ] || [ "$old" = "$release" ] || touch "$srv/releases/$old/left"
record 'in service' || echo '! cannot write the ledger; check whether the disk is full'
echo '= COMMITTED' || exec >/dev/null
running=$(helper units) || echo '! the old units may still run: its helper cannot be run'
printf '%s\n' "$running" | while read -r kind other _; do
    case $kind in
    web | worker | worker_* | beat) ;;
    twin)
        drain "twin-$other"
        helper stop twin "$other" later
        continue
        ;;
    *) continue ;;
    esac
    [ "$other" != "$release" ] || continue
    [ "$kind" != web ] || drain "$other"
    helper stop "$kind" "$other" later
done
if [ -n "$hook" ]; then
    # Processes that the hook leaves running must not hold the lock.
    said=$(cd "$srv/releases/$release" && printf '%s' "$hook" | base64 -d | sh -eu 2>&1 8>&-) || {
        printf '%s\n' "$said" | tail -n 20 | sed 's/^/| /'
        echo '! hooks.hosts_after fails'
        exit 1
    }
fi
echo '= DONE'
