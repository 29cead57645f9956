# shellcheck shell=sh
# shellcheck disable=SC2154 # frame.sh sets `name`: what the host calls the site; numbers.sh sets `scales`
# Prints the state of a host for a deploy, one fact a line.
set -eu
srv=/srv/$name
helper=/usr/local/sbin/$name-helper

# A failed setup removes its marker; the release keeps running and can be inspected and rolled back.
setup=$(cat "/etc/$name/setup" 2>/dev/null || true)
printf 'setup %s\n' "${setup:--}"
printf 'site %s\n' "$name"
[ -e "/etc/portico.d/sites/$name" ] || grep -qs "^$name " /etc/portico-owner || echo unmarked
# A rotation of secrets that has not ended (rotate.sh), or that is to be finished (rekey.py).
for server in database broker redis; do
    [ ! -e "/etc/$name/${server}_password.next" ] || printf 'rotating %s\n' "$server"
done
! grep -qs '^PORTICO_SECRET_KEY_FALLBACK=' "$srv/state/current/env" || echo 'rotating SECRET_KEY'
if [ ! -d "$srv/releases" ] || [ ! -x "$helper" ]; then exit 0; fi
printf 'roles %s\n' "$(cat "/etc/$name/roles")"
printf 'cores %s\n' "$(nproc)"
units=$(sudo -n "$helper" units)
[ -z "$units" ] || printf '%s\n' "$units" | sed 's/^/unit /'
current=$(readlink "$srv/state/current" || true)
printf 'current %s\n' "${current##*/}"
if workers=$(grep '^PORTICO_WORKERS=' "$srv/state/current/env" 2>/dev/null); then
    printf 'workers %s\n' "$(printf '%s' "${workers#*=}" | tr -d "'" | tr , ' ')"
fi
if [ -s "$scales" ] && [ -n "$current" ]; then
    while read -r kind number own _; do
        [ "$(own_number "$kind" "${current##*/}")" != "$own" ] || printf 'scaled %s %s %s\n' "$kind" "$number" "$own"
    done <"$scales"
fi
printf 'free %s\n' "$(df -Pk "$srv/releases" | awk 'NR == 2 { print $4 }')"
# In order of arrival, by this machine's clock: the ids come from the clocks of clients.
cd "$srv/releases"
# shellcheck disable=SC2012,SC2045 # names are ours
for record in $(ls -1tr -- [0-9]*/release.json 2>/dev/null); do
    folder=${record%/release.json}
    # When it was last activated: seconds since the epoch, 0 for never.
    served=$(stat -c %Y "$folder/served" 2>/dev/null || echo 0)
    left=-
    [ ! -e "$folder/left" ] || left=left
    printf 'release %s %s %s %s\n' "$folder" "$served" "$left" "$(cat "$folder/release.json")"
done
[ ! -e "$srv/state/ledger.jsonl" ] || tail -n 20 "$srv/state/ledger.jsonl" | sed 's/^/ledger /'
