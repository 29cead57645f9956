# shellcheck shell=sh
# shellcheck disable=SC2154 # frame.sh sets `name`: what the host calls the site
# Migrates the database with a release on this host, or reports whether migrations are pending, or makes a backup.
# Standard input, each a line: the release, and `migrate`, `pending`, `backup` or `snapshot`.
set -eu
IFS= read -r release
IFS= read -r what

helper() { sudo -n "/usr/local/sbin/$name-helper" "$@" </dev/null; }

case $what in
migrate) helper migrate "$release" ;;
backup) helper backup "$release" ;;
snapshot)
    helper snapshot migration
    cut -d ' ' -f 1 "/var/lib/$name-backup/last"
    ;;
pending)
    # Exit code 1: migrations are pending. Anything else: an error.
    if helper manage "$release" migrate --check >/dev/null; then echo none; else
        [ $? -eq 1 ] || exit 1
        echo some
    fi
    ;;
esac
