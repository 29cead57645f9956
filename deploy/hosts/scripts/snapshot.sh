# shellcheck shell=sh
# shellcheck disable=SC2154 # frame.sh sets `name`: what the host calls the site
# Makes a backup of this host, or proves the last one, or lists them, by the helper. Standard input: asked, verify or
# list. Output: what the repository has, or what was made.
set -eu
IFS= read -r what
helper=/usr/local/sbin/$name-helper
case $what in
list) exec sudo -n "$helper" backups </dev/null ;;
esac
sudo -n "$helper" snapshot "$what" </dev/null
case $what in
asked) read -r id _ <"/var/lib/$name-backup/last" ;;
verify) read -r _ id _ <"/var/lib/$name-backup/proved" ;;
esac
echo "$id"
