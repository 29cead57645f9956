# shellcheck shell=sh
# Prints what a deploy has to know of a host, a fact a line. Standard input: the project's name.
set -eu
IFS= read -r name
srv=/srv/$name
helper=/usr/local/sbin/$name-helper

# A setup that failed half-way has taken its mark; what serves, serves on, and can be asked for and gone back to.
setup=$(cat "/etc/$name/setup" 2>/dev/null || true)
printf 'setup %s\n' "${setup:--}"
if [ ! -d "$srv/releases" ] || [ ! -x "$helper" ]; then exit 0; fi
printf 'roles %s\n' "$(cat "/etc/$name/roles")"
printf 'cores %s\n' "$(nproc)"
units=$(sudo -n "$helper" units)
[ -z "$units" ] || printf '%s\n' "$units" | sed 's/^/unit /'
current=$(readlink "$srv/state/current" || true)
printf 'current %s\n' "${current##*/}"
printf 'free %s\n' "$(df -Pk "$srv/releases" | awk 'NR == 2 { print $4 }')"
for folder in "$srv"/releases/[0-9]*; do
    [ -f "$folder/release.json" ] || continue
    # When it served last: seconds of the epoch, 0 for never.
    served=$(stat -c %Y "$folder/served" 2>/dev/null || echo 0)
    left=-
    [ ! -e "$folder/left" ] || left=left
    # When it arrived, by this clock: that in its name is a client's.
    arrived=$(stat -c %Y "$folder/release.json")
    printf 'release %s %s %s %s %s\n' "${folder##*/}" "$served" "$left" "$arrived" "$(cat "$folder/release.json")"
done
[ ! -e "$srv/state/ledger.jsonl" ] || tail -n 20 "$srv/state/ledger.jsonl" | sed 's/^/ledger /'
