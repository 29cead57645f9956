# shellcheck shell=sh
# shellcheck disable=SC2154 # frame.sh sets `name`: what the host calls the site
# Creates a release on this host: its code, environment, layers and static files. It does not serve yet.
# Standard input: the values below, each a line, then the code as a compressed tar. The release's folder gets its final
# name when it is complete.
set -eu
IFS= read -r release
IFS= read -r site           # the folder of manage.py
IFS= read -r keep           # the number of releases to keep
IFS= read -r environment    # the site's environment, base64
IFS= read -r record         # release.json, base64
IFS= read -r hook           # a command to run in the new release, base64; empty for none

#: Kilobytes that must be free for a new release, after the removal of old ones.
least=204800

umask 022
srv=/srv/$name
final=$srv/releases/$release
coming=$srv/releases/.$release
step='cannot prepare the release'

on_exit() {
    code=$?
    trap '' EXIT TERM HUP INT
    if [ "$code" -ne 0 ]; then
        # Not every error message names a full disk as its cause.
        room=$(df -Pk "$srv/releases" "$srv/layers" | awk 'NR > 1 && $4 < 10240 { print " (the disk is full)"; exit }')
        printf '%s%s\n' "$step" "$room" >&2
    fi
    rm -rf "$coming"
    exit "$code"
}
trap on_exit EXIT
trap 'exit 143' TERM HUP INT

# Left incomplete by an earlier deploy: nobody else uses it, as the client holds the lock.
rm -rf "$srv"/releases/.[0-9]*

# --- Remove old releases first, so that a full disk does not prevent that. Keep those that units run, and the current.

step='another deploy is still restoring this host; run the command again'
exec 8>>"$srv/state/activating"
flock -w 150 8
step='its units cannot be listed; the line above says why'
units=$(sudo -n "/usr/local/sbin/$name-helper" units)
step='cannot remove old releases'
current=$(readlink "$srv/state/current" || true)
in_use() {
    [ "$1" = "${current##*/}" ] || case " $(printf '%s' "$units" | tr '\n' ' ') " in *" $1 "*) ;; *) return 1 ;; esac
}
cd "$srv/releases"
# Releases that have served, the most recent first; those that were rolled back come after all others.
good='' left=''
# shellcheck disable=SC2012,SC2045 # names are ours
for mark in $(ls -1t -- [0-9]*/served 2>/dev/null); do
    folder=${mark%/served}
    if [ -e "$folder/left" ]; then left="$left $folder"; else good="$good $folder"; fi
done
stay='' room=$((keep - 1))
for folder in $good $left; do
    [ "$room" -gt 0 ] || break
    stay="$stay $folder" room=$((room - 1))
done
for folder in [0-9]*; do
    case " $stay " in *" $folder "*) continue ;; esac
    if [ -d "$folder" ] && ! in_use "$folder"; then
        # Rename it first: nobody may roll back to a release that is half removed.
        mv "$folder" ".$folder"
        rm -rf ".$folder" "${srv:?}/layers/$folder"
    fi
done
exec 8>&-
free=$(df -Pk "$srv/releases" | awk 'NR == 2 { print $4 }')
step="only $((free / 1024)) MB are free for releases: make room, or lower keep"
[ "$free" -ge "$least" ] || exit 1
# The static files of kept releases do not expire, however long ago they were published.
for folder in "$srv"/releases/[0-9]*/static; do
    [ -d "$folder" ] || continue
    # shellcheck disable=SC2016 # the inner shell expands it
    (cd "$folder" && find . -type f -exec sh -c 'cd "$0" && touch -c -- "$@"' "$srv/static" {} +)
done

# --- The code and its environment.

# After `remote-rotate` (rekey.py): a value that it has ended is not brought back, and the key that is still accepted
# beside the new one goes over to the next release.
rotated() {
    [ ! -s "$srv/state/retired" ] || while read -r variable salt digest since; do
        case "$variable$salt$digest" in *[!A-Za-z0-9_]*) continue ;; esac
        # shellcheck source=/dev/null
        said=$(. "$coming/env" && eval "printf '%s' \"$salt\${$variable-}\"" | sha256sum)
        step="its $variable is one that \`remote-rotate\` has ended on $since: deploy with the present one, or rotate to it"
        [ "${said%% *}" != "$digest" ] || exit 1
    done <"$srv/state/retired"
    key=$(sed -n 's/^SECRET_KEY=//p' "$srv/state/current/env" 2>/dev/null) || return 0
    second=$(sed -n 's/^PORTICO_SECRET_KEY_FALLBACK=//p' "$srv/state/current/env")
    coming_key=$(sed -n 's/^SECRET_KEY=//p' "$coming/env")
    [ -n "$second" ] || return 0
    if [ "$coming_key" = "$second" ]; then second=$key; elif [ "$coming_key" != "$key" ]; then return 0; fi
    printf 'PORTICO_SECRET_KEY_FALLBACK=%s\n' "$second" >>"$coming/env"
}

step='the code did not arrive completely; run the command again'
mkdir "$coming"
tar -xz --ignore-zeros --no-same-owner --no-same-permissions -f - -C "$coming"
# These names are ours, even if the repository has files with them; an existing file would keep its mode.
rm -rf "$coming/env" "$coming/release.json" "$coming/venv" "$coming/web.sock" "$coming/static" "$coming/served" "$coming/left"
(umask 027 && printf '%s' "$environment" | base64 -d >"$coming/env")
rotated
printf '%s' "$record" | base64 -d >"$coming/release.json"
shared=$(sed -n 's/^PORTICO_SHARED=//p' "$coming/env")
if [ -n "$shared" ]; then
    # Without the share, uploads would go into the folder of this host below it.
    step="$shared is not mounted, and \`media: shared\` says that all hosts share it: mount it, with a line in /etc/fstab"
    mountpoint -q "$shared"
fi
ln -s "/run/$name/web-$release/sock" "$coming/web.sock"

# --- The layers of its locks. Layers that exist are not built again.

step='its layers are not built; the lines above say why'
cd "$coming"
PYTHONDONTWRITEBYTECODE=1 python3 -m deploy.hosts.store "$srv/layers" "$release" >&2
ln -s "$srv/layers/$release" venv

# --- Its checks and static files. These steps use no server; the settings only need some value.

step='its checks or static files fail; the lines above say why'
cd "$coming/$site"
(
    set -a
    # shellcheck source=/dev/null
    . "$coming/env"
    set +a
    export DATABASE_URL="${DATABASE_URL:-postgres://nowhere}" CELERY_BROKER_URL="${CELERY_BROKER_URL:-memory://}"
    export STATIC_ROOT="$coming/static" PUBLISHED_STATIC="$srv/static"
    export PYTHONPATH="$coming/deploy/kit"
    unset PYTHONDONTWRITEBYTECODE
    exec "$coming/venv/bin/python" -m portico_site.release collect publish >&2
)

if [ -n "$hook" ]; then
    step='the hook fails; the lines above say why'
    cd "$coming"
    printf '%s' "$hook" | base64 -d | sh -eu
fi
step='it cannot be written to the disk'
# After a power failure a rename may survive while the files' contents do not.
sync -f "$coming"
mv "$coming" "$final"
