# shellcheck shell=sh
# shellcheck disable=SC2154 # frame.sh sets `name`: what the host calls the site
# Notes which release serves, on a host with the database alone: its backups name it (backup.sh).
# Standard input: the release and its commit, in a line.
set -eu
IFS= read -r serving
printf '%s\n' "$serving" >"/srv/$name/state/.serving"
mv "/srv/$name/state/.serving" "/srv/$name/state/serving"
