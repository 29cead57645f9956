# shellcheck shell=sh
# shellcheck disable=SC2154 # frame.sh sets `name`: what the host calls the site
# Begins or ends a maintenance on this host, as the deploy user: nginx looks for these files at each request.
#
# Standard input, each a line: a step; the record (JSON), the page, the names in `allow` (base64; the last by space);
# the kinds of processes that are held, worker or beat, by space; an entry for the ledger (the inner part of a JSON
# object; empty for none); `end`.
#   on         write all of it; `on` comes last, so that nginx never finds a part
#   hold       stop what is held, when its tasks have ended; start what is no longer held
#   release    start all that was held
#   off        end it
set -eu
IFS= read -r step
IFS= read -r record
IFS= read -r page
IFS= read -r allow
IFS= read -r hold
IFS= read -r entry
IFS= read -r last || true
fail() {
    echo "$1" >&2
    exit 1
}
[ "$last" = end ] || fail "the connection was lost; run the command again"

folder=/srv/$name/state/maintenance
roles=" $(cat "/etc/$name/roles") "
has() { case $roles in *" $1 "*) ;; *) return 1 ;; esac; }
helper() { sudo -n "/usr/local/sbin/$name-helper" "$@" </dev/null; }
text() { printf '%s' "$1" | base64 -d; }
old="its setup is of a version without maintenance: run remote-setup, then this again"
umask 022

on() {
    ! has web || grep -qs maintenance_root "/etc/nginx/$name/site.conf" || fail "$old"
    for role in $hold; do
        ! has "$role" || grep -qs "maintenance/hold-$role" "/etc/systemd/system/$name-$role@.service" || fail "$old"
    done
    mkdir -p "$folder/allow"
    names=$(text "$allow")
    for each in $names; do : >"$folder/allow/$each"; done
    text "$page" >"$folder/.page"
    mv -f -T "$folder/.page" "$folder/page.html"
    text "$record" >"$folder/.on"
    mv -f -T "$folder/.on" "$folder/on"
    for file in "$folder"/allow/*; do
        case " $(printf '%s' "$names" | tr '\n' ' ') " in *" ${file##*/} "*) ;; *) rm -f "$file" ;; esac
    done
}

# What runs of a role: KIND RELEASE STATE, a line each.
running() { # ROLE
    helper units | sed -n "/^$1\(_[a-z0-9_]*\)\{0,1\} /p"
}

stop() { # ROLE
    : >"$folder/hold-$1"
    units=$(running "$1")
    printf '%s\n' "$units" | while read -r kind release _; do
        [ -z "$kind" ] || helper stop "$kind" "$release" later || exit 1
    done || fail "$1 cannot be stopped: its helper or systemd does not answer"
    while [ -n "$(running "$1")" ]; do sleep 0.5; done
}

start() { # ROLE
    [ -e "$folder/hold-$1" ] || return 0
    rm -f "$folder/hold-$1"
    release=$(readlink "/srv/$name/state/current") || return 0
    release=${release##*/}
    kinds=$1
    if [ "$1" = worker ]; then
        workers=$(sed -n 's/^PORTICO_WORKERS=//p' "/srv/$name/releases/$release/env" | tr -d "'" | tr , ' ')
        [ -n "$workers" ] || grep -q '^PORTICO_WORKERS=' "/srv/$name/releases/$release/env" || workers=worker
        kinds=$workers
    fi
    for kind in $kinds; do
        said=$(helper start "$kind" "$release" now 2>&1) || {
            : >"$folder/hold-$1"
            printf '%s\n' "$said" | tail -n 20 >&2
            fail "$kind of $release does not start; its lines are above"
        }
    done
}

each_role() {
    for role in worker beat; do
        has "$role" || continue
        case " $hold " in *" $role "*) stop "$role" ;; *) start "$role" ;; esac
    done
}

case $step in
    on) on ;;
    hold) each_role ;;
    release)
        hold=
        each_role
        ;;
    off) rm -f "$folder/on" "$folder"/hold-* ;;
    *) fail "unknown step: $step" ;;
esac
[ -z "$entry" ] || printf '{"at": "%s", %s, "outcome": "done"}\n' "$(date -u +%Y-%m-%dT%H:%M:%SZ)" "$entry" \
    >>"/srv/$name/state/ledger.jsonl"
