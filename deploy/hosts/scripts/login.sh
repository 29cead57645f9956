# shellcheck shell=sh
# What a deploy needs of the deploy user first. Standard input: the project's name.
set -eu
IFS= read -r name
sudo -n "/usr/local/sbin/$name-helper" units >/dev/null
