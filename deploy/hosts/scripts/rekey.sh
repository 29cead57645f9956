# shellcheck shell=sh
# shellcheck disable=SC2154 # frame.sh sets `name`: what the host calls the site
# Looks at, or changes, a secret in the environments of the releases that this host keeps.
# Standard input: the program (rekey.py, base64), a line; then its request, which has the secret.
set -eu
IFS= read -r program
umask 027
# An interrupted deploy may still be restoring this host, although its client's lock is free.
exec 8>>"/srv/$name/state/activating"
flock -w 150 8 || {
    echo 'another deploy is still restoring this host; run the command again' >&2
    exit 1
}
exec python3 -I -c "$(printf '%s' "$program" | base64 -d)" "/srv/$name" 8>&-
