# shellcheck shell=sh
# shellcheck disable=SC2154 # frame.sh sets `name`: what the host calls the site
# What a deploy needs of the deploy user first.
set -eu
sudo -n "/usr/local/sbin/$name-helper" units >/dev/null
