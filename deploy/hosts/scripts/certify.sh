# shellcheck shell=sh
# Gets the certificate now, as its timer does. Standard input: what the host calls the site. On failure, the last line
# says why.
set -eu
IFS= read -r name
failed=/var/lib/$name-certificate/failed
rm -f "$failed"
if ! systemctl --quiet start "$name-certificate.service" </dev/null 2>/dev/null; then
    said=$(cut -d ' ' -f 2- "$failed" 2>/dev/null | head -n 1) || said=
    echo "${said:-the certificate was not ordered: \`journalctl -u $name-certificate\` there shows why}" >&2
    exit 1
fi
