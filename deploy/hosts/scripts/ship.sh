# shellcheck shell=sh
# Makes a release on this host: its code, environment, layers and static files. It serves nothing yet.
# Standard input: the values below, each a line, then the code as a compressed tar. It gets its name when it is whole.
set -eu
IFS= read -r name
IFS= read -r release
IFS= read -r site           # the folder of manage.py
IFS= read -r keep           # releases that stay
IFS= read -r environment    # of the site, base64
IFS= read -r record         # release.json, base64
IFS= read -r hook           # a command in the new release, base64; empty for none

#: Kilobytes that must be free for a release to be begun, when those that are too old have gone.
least=204800

umask 022
srv=/srv/$name
final=$srv/releases/$release
coming=$srv/releases/.$release
step='it cannot be begun'

leave() {
    code=$?
    trap '' EXIT TERM HUP INT
    if [ "$code" -ne 0 ]; then
        # Not everything that meets a full disk says so.
        room=$(df -Pk "$srv/releases" "$srv/layers" | awk 'NR > 1 && $4 < 10240 { print " (the disk is full)"; exit }')
        printf '%s%s\n' "$step" "$room" >&2
    fi
    rm -rf "$coming"
    exit "$code"
}
trap leave EXIT
trap 'exit 143' TERM HUP INT

# What an earlier one left half made: nobody else is at it, as the client holds the lock.
rm -rf "$srv"/releases/.[0-9]*

# --- What is too old goes first, so that a full disk is not in the way. What a unit runs stays, and what serves.

step='another deploy still puts this host back; repeat the command'
exec 8>>"$srv/state/activating"
flock -w 150 8
units=$(sudo -n "/usr/local/sbin/$name-helper" units)
current=$(readlink "$srv/state/current" || true)
in_use() {
    [ "$1" = "${current##*/}" ] || case " $(printf '%s' "$units" | tr '\n' ' ') " in *" $1 "*) ;; *) return 1 ;; esac
}
cd "$srv/releases"
# Those that served, the last one first, and those that were rolled back from after all others.
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
        # Out of sight at once: a half of it must not be gone back to.
        mv "$folder" ".$folder"
        rm -rf ".$folder" "${srv:?}/layers/$folder"
    fi
done
exec 8>&-
free=$(df -Pk "$srv/releases" | awk 'NR == 2 { print $4 }')
step="only $((free / 1024)) MB are free for releases: make room, or lower keep"
[ "$free" -ge "$least" ] || exit 1
# The static files of those that stay are not old, however long ago they were published.
for folder in "$srv"/releases/[0-9]*/static; do
    [ -d "$folder" ] || continue
    # shellcheck disable=SC2016 # the inner shell's own
    (cd "$folder" && find . -type f -exec sh -c 'cd "$0" && touch -c -- "$@"' "$srv/static" {} +)
done

# --- The code, and with it what it is to know.

step='the code does not arrive whole'
mkdir "$coming"
tar -xz --ignore-zeros --no-same-owner --no-same-permissions -f - -C "$coming"
# What has a name of ours is ours, whatever the repository has of that name; a file that is there would keep its mode.
rm -rf "$coming/env" "$coming/release.json" "$coming/venv" "$coming/web.sock" "$coming/static" "$coming/served" "$coming/left"
(umask 027 && printf '%s' "$environment" | base64 -d >"$coming/env")
printf '%s' "$record" | base64 -d >"$coming/release.json"
ln -s "/run/$name/web-$release/sock" "$coming/web.sock"

# --- Layers: those that its locks name. None is made that is there already.

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
    unset PYTHONDONTWRITEBYTECODE
    exec "$coming/venv/bin/python" release.py collect publish >&2
)

if [ -n "$hook" ]; then
    step='the hook fails; the lines above say why'
    cd "$coming"
    printf '%s' "$hook" | base64 -d | sh -eu
fi
step='it cannot be written to the disk'
# A machine that loses its power keeps a rename, and not always what is in the files.
sync -f "$coming"
mv "$coming" "$final"
