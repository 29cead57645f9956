# shellcheck shell=sh
# shellcheck disable=SC2154 # frame.sh sets `name`: what the host calls the site
# Prints the last lines of a unit. Standard input, each a line: the kind, the release, the number.
set -eu
IFS= read -r kind
IFS= read -r release
IFS= read -r lines
exec sudo -n "/usr/local/sbin/$name-helper" journal "$kind" "$release" "$lines"
