# shellcheck shell=sh
# Prints what a deploy has to know of a host, a fact a line. Standard input: the project's name.
set -eu
IFS= read -r name
srv=/srv/$name

if [ ! -r "/etc/$name/setup" ] || [ ! -d "$srv/releases" ]; then
    echo 'setup -'
    exit 0
fi
printf 'setup %s\n' "$(cat "/etc/$name/setup")"
printf 'cores %s\n' "$(nproc)"
units=$(sudo -n "/usr/local/sbin/$name-helper" units)
[ -z "$units" ] || printf '%s\n' "$units" | sed 's/^/unit /'
current=$(readlink "$srv/state/current" || true)
printf 'current %s\n' "${current##*/}"
printf 'free %s\n' "$(df -Pk "$srv/releases" | awk 'NR == 2 { print $4 }')"
for folder in "$srv"/releases/[0-9]*; do
    [ -f "$folder/release.json" ] || continue
    served=never
    [ ! -e "$folder/served" ] || served=served
    printf 'release %s %s %s\n' "${folder##*/}" "$served" "$(cat "$folder/release.json")"
done
[ ! -e "$srv/state/ledger.jsonl" ] || tail -n 20 "$srv/state/ledger.jsonl" | sed 's/^/ledger /'
