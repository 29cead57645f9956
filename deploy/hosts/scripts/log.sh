# shellcheck shell=sh
# shellcheck disable=SC2154 # frame.sh sets `name`: what the host calls the site
# Prints the log of the site's units as JSON. Standard input, each a line: the helper's verb (log or follow), the number
# of lines, since when. What follows stays open as long as somebody reads.
set -eu
IFS= read -r verb
IFS= read -r lines
IFS= read -r since
case $verb in
    follow) exec sudo -n "/usr/local/sbin/$name-helper" follow "$since" ;;
    *) exec sudo -n "/usr/local/sbin/$name-helper" log "$lines" "$since" </dev/null ;;
esac
