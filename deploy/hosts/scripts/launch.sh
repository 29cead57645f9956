#!/bin/sh
# shellcheck shell=sh
# Runs one process of a release as the site's user: `/usr/local/lib/NAME/launch RELEASE web|worker|beat|release`, or
# `… RELEASE manage WORDS…`. The release's `env` belongs to the deploy user, so only this script reads it, never root.
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
case $release in
    *[!0-9a-f-]*)
        echo "launch: that is not a release" >&2
        exit 64
        ;;
esac
# SITE and PACKAGE: the site's folder in a release, and its package. Set after the release's own variables, which may be
# anything.
folder=/srv/$name/releases/$release
set -a
# shellcheck source=/dev/null
. "$folder/env"
set +a
SITE='' PACKAGE=''
# shellcheck source=/dev/null
. "/etc/$name/project"
PATH=$folder/venv/bin:$PATH
export PATH
cd "$folder/$SITE"
case $kind in
    web) exec gunicorn ;;
    worker)
        exec celery --quiet -A "$PACKAGE" worker -n "worker-$release@%h" -c "${CONCURRENCY:-$(nproc)}" -l info
        ;;
    beat) exec celery --quiet -A "$PACKAGE" beat -l info ;;
    release) exec python release.py migrate ;;
    manage) exec python manage.py "$@" ;;
    *)
        echo "launch: KIND must be web, worker, beat, release or manage" >&2
        exit 64
        ;;
esac
