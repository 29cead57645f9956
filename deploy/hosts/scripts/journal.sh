# shellcheck shell=sh
# Prints the last lines of a unit. Standard input, each a line: the project's name, the kind, the release, the number.
set -eu
IFS= read -r name
IFS= read -r kind
IFS= read -r release
IFS= read -r lines
exec sudo -n "/usr/local/sbin/$name-helper" journal "$kind" "$release" "$lines"
