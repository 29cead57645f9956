# shellcheck shell=sh
# shellcheck disable=SC2034,SC2154 # site.sh uses probes and entry; frame.sh sets `name`
# Restarts units of the release that serves on this host, one after the other, so that no request and no task is lost:
# a second instance answers while the web unit restarts, a worker ends its tasks first, beat stops before it starts.
#
# Standard input, each a line: the values below.
# Standard output: `= KIND` when a unit has restarted, `| LINE` of a journal. The last line of standard error: the reason.
set -eu
IFS= read -r release        # the one that serves, as the client knows it
IFS= read -r kinds          # space-separated: web, worker, worker_NAME, beat
IFS= read -r host           # a host name of the site
IFS= read -r scheme         # the scheme of clients' requests
IFS= read -r probes         # space-separated paths that must answer
IFS= read -r entry          # for the ledger: the inner part of a JSON object

srv=/srv/$name
state=$srv/state
done=

fail() { # WHY
    trap '' TERM HUP INT PIPE
    trap - EXIT
    why=$1
    case $(readlink "$srv/releases/$release/web.sock" || true) in
    */web-twin-*) why="$why; a second instance of web serves until the next restart or deploy" ;;
    esac
    record "failed: $why${done:+, after$done}" || true
    echo "$why" >&2
    exit 1
}
interrupted() { # WHY
    exec >/dev/null 2>&1
    fail "$1"
}
listen() {
    trap 'interrupted "the client disconnected"' TERM HUP INT PIPE
    trap 'interrupted "the script ended unexpectedly"' EXIT
}

# An interrupted deploy may still be restoring this host, although its client's lock is free.
exec 8>>"$state/activating"
flock -w 150 8 || {
    echo 'another deploy is still restoring this host; run the command again' >&2
    exit 1
}
listen
[ ! -L "$state/before" ] || mv -T "$state/before" "$state/current"
[ "$(readlink "$state/current")" = "../releases/$release" ] || fail 'serves another release by now; run the command again'

# Run the helper; what it prints is a unit's journal.
tell() { # VERB, KIND
    said=$(helper "$1" "$2" "$release" 2>&1) && return
    printf '%s\n' "$said" | tail -n 20 | sed 's/^/| /'
    return 1
}
own_socket() { # RELEASE, or twin-RELEASE
    probe 'its own socket' http://localhost --unix-socket "/run/$name/web-$1/sock" \
        -H "Host: $host" -H 'X-Forwarded-Proto: https'
}

restart_web() {
    tell start twin || fail 'a second instance of web does not start, so the first one was not restarted'
    own_socket "twin-$release"
    # Until the unit itself serves again, nothing interrupts this.
    trap '' TERM HUP INT PIPE
    way_to "twin-$release" || fail "cannot write $srv/releases/$release/web.sock"
    drain "$release"
    tell restart web || fail 'web does not start again'
    own_socket "$release"
    way_to "$release" || fail "cannot write $srv/releases/$release/web.sock"
    drain "twin-$release"
    helper stop twin "$release" later || true
    listen
    probe 'through nginx' "$scheme://$host" --insecure \
        --resolve "$host:80:127.0.0.1" --resolve "$host:443:127.0.0.1"
}

for kind in $kinds; do
    if [ "$kind" = web ]; then restart_web; else tell restart "$kind" || fail "$kind does not start again"; fi
    done="$done $kind"
    echo "= $kind"
done
trap - EXIT
record "restarted$done" || true
