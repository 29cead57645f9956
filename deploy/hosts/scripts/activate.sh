# shellcheck shell=sh
# Puts a release of this host into service, in step with the other hosts, or takes it back.
#
# Standard input: the values below, each a line; then commands, each of which is answered: `workers` (wait until they are
# ready), `flip`, `beat`, `hold` (are you there?), `commit` or `back`. A dot now and then says that the client lives: when
# it is gone, everything is as it was before.
# Standard output: `= WORD` when a command is done, `! WHY` when it is not, `| LINE` of a journal.
set -eu
IFS= read -r name
IFS= read -r release
IFS= read -r host           # a name that the site answers to
IFS= read -r scheme         # in which clients ask for it
IFS= read -r probes         # space-separated paths that must answer
IFS= read -r entry          # for the ledger: inner part of an object of JSON
IFS= read -r leave          # anything: what serves now is rolled back from, and nothing to go back to; empty for not
IFS= read -r hook           # a command in the release once it serves, base64; empty for none

srv=/srv/$name
state=$srv/state
roles=" $(cat "/etc/$name/roles") "
#: Seconds without a sign of life after which the client is taken for gone; less than the lock's.
silence=40
#: Seconds for all paths to answer, asked again and again, before the release counts as unhealthy.
patience=20

helper() { sudo -n "/usr/local/sbin/$name-helper" "$@" </dev/null; }
has() { case $roles in *" $1 "*) ;; *) return 1 ;; esac; }
serving() { link=$(readlink "$state/current" || true) && printf '%s' "${link##*/}"; }

# One that was cut off may still be putting this host back, although its client's lock is free.
exec 8>>"$state/activating"
flock -w 150 8 || {
    echo '! another deploy still puts this host back; repeat the command'
    exit 1
}
# `before` is what a flip leaves until the release is committed. Who finds it comes after a crash, and puts it back.
[ ! -L "$state/before" ] || mv -T "$state/before" "$state/current"
old=$(serving)
old_beat=$(helper units | sed -n '/^beat .* deactivating$/d; s/^beat \([^ ]*\) .*/\1/p' | head -n 1)
started='' beat_moved=''

flip() { # a rename: whoever asks meets the one or the other
    [ "$old" != "$release" ] || return 0
    { [ -z "$old" ] || ln -sfn "../releases/$old" "$state/before"; } &&
        ln -sfn "../releases/$release" "$state/.current" &&
        mv -T "$state/.current" "$state/current"
}

record() { # OUTCOME
    outcome=$(printf '%s' "$1" | tr -d '\000-\037' | sed 's/[\\"]/\\&/g')
    printf '{"at": "%s", %s, "outcome": "%s"}\n' "$(date -u +%Y-%m-%dT%H:%M:%SZ)" "$entry" "$outcome" >>"$state/ledger.jsonl"
}

# Until no connection waits in the queue of a web unit's socket: one that is stopped resets those.
drain() { # RELEASE
    for _ in 1 2 3 4 5 6 7 8 9 10 11 12 13 14 15 16 17 18 19 20; do
        waiting=$(ss -xlHn | awk -v socket="/run/$name/web-$1/sock" '$5 == socket { sum += $3 } END { print sum + 0 }')
        [ "$waiting" -gt 0 ] || return 0
        sleep 0.2
    done
}

# In the order of what matters most. 1: it cannot be, and the release serves on.
put_back() { # WHY
    trap '' TERM HUP INT PIPE
    trap - EXIT
    set +e
    record "$1"
    [ "$old" != "$release" ] || return 0 # it served already
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
        ! has worker || helper stop worker "$release" later
        if has web; then
            drain "$release"
            helper stop web "$release" later
        fi
    fi
    return 0
}

give_up() { # WHY
    trap '' TERM HUP INT PIPE
    printf '! %s\n' "$1" || exec >/dev/null
    put_back "failed: $1" >/dev/null 2>&1 ||
        printf '! %s; and %s cannot be put back: %s serves on\n' "$1" "$state/current" "$release"
    exit 1
}

gone() { # WHY
    exec >/dev/null 2>&1
    put_back "put back: $1"
    exit 1
}
trap 'gone "the client was gone"' TERM HUP INT PIPE
trap 'gone "a step ended that nobody looked at"' EXIT

start() { # KIND
    # An old worker that still runs a task, as after a rollback, is started again as soon as it has ended; a web unit
    # that still answers a request is waited for, as nothing else can answer in its place.
    if [ "$1" = worker ] && helper units | grep -q "^$1 $release deactivating"; then
        helper start "$1" "$release" later
    elif ! said=$(helper start "$1" "$release" now 2>&1); then
        printf '%s\n' "$said" | tail -n 20 | sed 's/^/| /'
        give_up "$1 of $release does not start"
    fi
}

probe() { # WHERE, URL WITHOUT PATH, OPTIONS OF CURL…
    where=$1 url=$2
    shift 2
    end=$(($(date +%s) + patience))
    for path in $probes; do
        until said=$(curl -s -m 5 --noproxy '*' -w '\n%{http_code}' "$@" "$url$path" | tr -d '\000') &&
            code=$(printf '%s\n' "$said" | tail -n 1) && [ "$code" -ge 100 ] && [ "$code" -lt 400 ]; do
            if [ "$(date +%s)" -ge "$end" ]; then
                helper journal web "$release" 20 | sed 's/^/| /'
                case $said in '{'*) printf '%s\n' "$said" | sed '$d' | cut -c 1-500 | sed 's/^/| /' ;; esac
                [ "$code" != 000 ] || give_up "$where: $path: no answer within $patience s"
                give_up "$where: $path answers $code"
            fi
            sleep 0.5
        done
    done
}

# Whether what comes next can be done at all, asked while all can still be put back.
require_helper() { helper units >/dev/null || give_up 'its helper cannot be run: sudo refuses, or systemd does not answer'; }

ask() {
    # shellcheck disable=SC2016 # the inner shell's own
    while word=$(timeout "$silence" sh -c 'IFS= read -r word && printf %s "$word"' 8>&-); do
        [ "$word" = . ] || return 0
    done
    gone 'the client was gone'
}

# --- Everything new begins beside what serves.

started=1
! has worker || helper start worker "$release" later
if has web; then
    start web
    probe 'its own socket' http://localhost --unix-socket "/run/$name/web-$release/sock" \
        -H "Host: $host" -H 'X-Forwarded-Proto: https'
fi
echo '= STARTED'

while ask; do
    case $word in
    hold)
        require_helper
        echo '= HELD'
        ;;
    workers)
        ! has worker || start worker
        echo '= WORKERS'
        ;;
    flip)
        if ! has beat && [ -n "$old_beat" ]; then # that role has moved to another host
            beat_moved=1
            helper stop beat "$old_beat" now || give_up "the old beat does not stop"
        fi
        said=$(flip 2>&1) || give_up "$state/current cannot be written: $(printf '%s\n' "$said" | tail -n 1)"
        if has web; then
            probe 'through nginx' "$scheme://$host" --insecure \
                --resolve "$host:80:127.0.0.1" --resolve "$host:443:127.0.0.1"
        fi
        echo '= FLIPPED'
        ;;
    beat) # one that is late is better than two
        beat_moved=1
        running=$(helper units) || give_up 'its units cannot be listed'
        for other in $(printf '%s\n' "$running" | sed -n 's/^beat \([^ ]*\) .*/\1/p'); do
            [ "$other" = "$release" ] || helper stop beat "$other" now || give_up "beat of $other does not stop"
        done
        start beat
        echo '= BEAT'
        ;;
    commit)
        require_helper
        break
        ;;
    *)
        put_back "put back: ${word#back }" >/dev/null 2>&1 || {
            echo "! $state/current cannot be put back: $release serves on"
            exit 1
        }
        echo '= BACK'
        exit 0
        ;;
    esac
done

# --- It serves. What was before ends in its own time; whatever comes now, this goes on.

trap '' TERM HUP INT PIPE
trap - EXIT
set +e
rm -f "$state/before"
# By when they served last, releases are gone back to, and kept; those that were rolled back from are the last of them.
touch "$srv/releases/$release/served" && rm -f "$srv/releases/$release/left"
[ -z "$leave" ] || [ -z "$old" ] || [ "$old" = "$release" ] || touch "$srv/releases/$old/left"
record 'in service' || echo '! the ledger cannot be written; is the disk full?'
echo '= COMMITTED' || exec >/dev/null
running=$(helper units) || echo '! what was before may still run: its helper cannot be run'
printf '%s\n' "$running" | while read -r kind other _; do
    case $kind in web | worker | beat) ;; *) continue ;; esac
    [ "$other" != "$release" ] || continue
    [ "$kind" != web ] || drain "$other"
    helper stop "$kind" "$other" later
done
if [ -n "$hook" ]; then
    # What it leaves running must not hold the lock.
    said=$(cd "$srv/releases/$release" && printf '%s' "$hook" | base64 -d | sh -eu 2>&1 8>&-) || {
        printf '%s\n' "$said" | tail -n 20 | sed 's/^/| /'
        echo '! hooks.hosts_after fails'
        exit 1
    }
fi
echo '= DONE'
