#!/bin/sh
# shellcheck shell=sh
# Runs one process of a release as the site's user: `/usr/local/lib/NAME/launch RELEASE web|worker|beat|release`, or
# `… RELEASE manage WORDS…`. A kind of workers is named before the release, as NAME:RELEASE; a second web unit, while the
# first restarts, is `twin-RELEASE web`. The release's `env` belongs to the deploy user, so only this script reads it, never root.
set -eu
[ "$(id -u)" -ne 0 ] || {
    echo "launch: must not run as root" >&2
    exit 64
}
name=${0%/launch}
name=${name##*/}
release=$1
kind=$2
shift 2
worker=
twin=
case $release in
    twin-*) twin=$release release=${release#twin-} ;;
    *:*) worker=_${release%%:*} release=${release#*:} ;;
esac
case $worker in
    *[!a-z0-9_]*)
        echo "launch: that is not a kind of workers" >&2
        exit 64
        ;;
esac
case $release in
    *[!0-9a-f-]*)
        echo "launch: that is not a release" >&2
        exit 64
        ;;
esac
folder=/srv/$name/releases/$release
set -a
# shellcheck source=/dev/null
. "$folder/env"
set +a
# The number of processes that `remote-scale` has set (scale.sh), as long as the release's own is the one it changed.
scaled() { # KIND, NUMBER
    most=$2
    [ ! -r "/srv/$name/state/scale" ] || while read -r which instead own _; do
        case $which:$own:$instead in
            "$1:$2:"[1-9] | "$1:$2:"[1-9][0-9]) most=$instead ;;
        esac
    done <"/srv/$name/state/scale"
    echo "$most"
}
[ -z "$twin" ] || export BIND="unix:/run/$name/web-$twin/sock"
# A release brings the kit that it runs with, and the names of its own parts (PORTICO_…).
PATH=$folder/venv/bin:$PATH
PYTHONPATH=$folder/deploy/kit${PYTHONPATH:+:$PYTHONPATH}
export PATH PYTHONPATH
cd "$folder/${PORTICO_SITE:?is missing: the release is older than this setup of the host; deploy it again with --ref}"
case $kind in
    web)
        WEB_CONCURRENCY=$(scaled web "${WEB_CONCURRENCY-}")
        export WEB_CONCURRENCY
        exec gunicorn -c python:portico_site.gunicorn_conf
        ;;
    worker)
        # The arguments of this kind; a release of an earlier version names none for its only one.
        eval "words=\${PORTICO_WORKER$worker-}"
        [ -n "$words$worker" ] || words="-c ${CONCURRENCY:-$(nproc)} -l info"
        [ -n "$words" ] || {
            echo "launch: this release has no workers of the kind ${worker#_}" >&2
            exit 64
        }
        case $words in
            "-c "*)
                own=${words#-c }
                own=${own%% *}
                words="-c $(scaled "worker$worker" "$own")${words#-c "$own"}"
                ;;
        esac
        set -f
        # shellcheck disable=SC2086 # words without spaces, which `deploy/project/workers.py` has checked
        exec celery --quiet -A portico_site.celery:app worker -n "worker$worker-$release@%h" $words
        ;;
    beat) exec celery --quiet -A portico_site.celery:app beat -s /tmp/celerybeat-schedule -l info ;;
    release) exec python -m portico_site.release migrate ;;
    manage) exec python manage.py "$@" ;;
    *)
        echo "launch: KIND must be web, worker, beat, release or manage" >&2
        exit 64
        ;;
esac
