# shellcheck shell=sh
# shellcheck disable=SC2154 # frame.sh sets `name`: what the host calls the site
# Adds a deploy that ended before it was activated to the ledger of this host: activate.sh records the others.
# Standard input, each a line: the entry (the inner part of a JSON object), how it ended (JSON).
set -eu
IFS= read -r entry
IFS= read -r outcome
printf '{"at": "%s", %s, "outcome": %s}\n' "$(date -u +%Y-%m-%dT%H:%M:%SZ)" "$entry" "$outcome" \
    >>"/srv/$name/state/ledger.jsonl"
rm -f "/srv/$name/state/begun"
