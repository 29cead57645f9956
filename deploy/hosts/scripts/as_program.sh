# shellcheck shell=sh
# shellcheck disable=SC2154 # frame.sh sets `name`: what the host calls the site
# Runs one of the site's programs in /usr/local/lib/NAME as root, for an administrator. Standard input: its name and
# words, in a line, space-separated.
set -eu
IFS= read -r words
[ -n "$name" ] && [ -x "/usr/local/lib/$name/${words%% *}" ] || {
    echo "this host is not set up for backups: run remote-setup" >&2
    exit 1
}
set -f
# shellcheck disable=SC2086 # words without spaces
set -- $words
program=/usr/local/lib/$name/$1
shift
if [ "$(id -u)" -eq 0 ]; then exec "$program" "$@" </dev/null; fi
exec sudo -n "$program" "$@" </dev/null
