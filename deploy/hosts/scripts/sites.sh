# shellcheck shell=sh
# Prints the sites of a host, a line each, for setup:
#
#   mark NAME PROJECT ENVIRONMENT COMMIT VERSION     what the site is called here, and whose it is
#   earlier NAME                                     a site that a version without marks has set up
set -eu
marks=/etc/portico.d/sites
known=' '
for mark in "$marks"/*; do
    [ -f "$mark" ] || continue
    printf 'mark %s %s\n' "${mark##*/}" "$(grep -v '^#' "$mark" | head -n 1)"
    known="$known${mark##*/} "
done
# The one mark of earlier versions, whose sites have the names of their projects.
if [ "$known" = ' ' ] && [ -f /etc/portico-owner ]; then
    said=$(grep -v '^#' /etc/portico-owner | head -n 1)
    printf 'mark %s %s\n' "${said%% *}" "$said"
    known="$known${said%% *} "
fi
for helper in /usr/local/sbin/*-helper; do
    name=${helper##*/}
    name=${name%-helper}
    case $known in *" $name "*) continue ;; esac
    [ ! -f "/etc/$name/roles" ] || echo "earlier $name"
done
