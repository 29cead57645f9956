# shellcheck shell=sh
# shellcheck disable=SC2154 # `dumps`, which is read first, sets name, record, spool, database
# Installed as /usr/local/lib/NAME/restore, for root: the steps of a restore, which `remote-restore` runs in order.
#
#   ask            nothing: whether this can be run
#   prepare ID     on the database's host: fetch a backup, check it, load it into a database beside the one in use
#   files ID       fetch the site's files of this host, beside those in use
#   stop           stop the processes of the site on this host
#   switch ID      put what was prepared here in place of what is in use, which is kept
#   back           put back what `switch` has replaced
#   start          start the release that serves, without waiting
#   finish         remove what was fetched
#   drop ID        remove what the restore of a backup has kept
#
# Until `switch`, the site is as it was.
set -eu
# shellcheck source=/dev/null
. "${0%/*}/dumps"

srv=/srv/$name
staged=$srv/.restore
kept=$srv/before
# Names of databases end after 63 letters.
short=$(printf '%.46s' "$database")
restored=${short}_restored

require_room() { # FOLDER BYTES
    free=$(df -Pk "$1" | awk 'NR == 2 { print $4 }')
    [ "$free" -gt $(($2 / 1024 + 102400)) ] ||
        fail "$1 has $((free / 1024)) MB free, and the backup needs $(($2 / 1048576)): make room there"
}

snapshot_size() { # ID
    said=$(restic --quiet --no-lock --json stats --mode restore-size "$1" 2>&1) || fail "$(reason "$said")"
    printf '%s\n' "$said" | sed -n 's/.*"total_size":\([0-9]*\).*/\1/p'
}

prepare() { # ID
    size=$(snapshot_size "$1") || exit 1
    [ -n "$size" ] || fail "restic does not say how large backup $1 is: is its version 0.14 or later?"
    require_room "$spool" "$size"
    rm -rf "$spool/restore"
    fetch_set "$1" "$spool/restore"
    require_whole "$set_of_files"
    made_by=$(field "$set_of_files/manifest.json" server)
    here=$(major)
    [ "${made_by:-0}" -le "$here" ] || fail "the backup is of PostgreSQL $made_by, and this server is $here: install $made_by"
    require_room /var/lib/postgresql $((2 * $(field "$set_of_files/manifest.json" size)))
    load "$set_of_files" "$restored" "$database"
    fetch_files "$1"
    rm -rf "$spool/restore"
}

fetch_files() { # ID
    rm -rf "$staged"
    mkdir -m 700 "$staged"
    said=$(restic --quiet restore "$1" --target "$staged" --exclude /var 2>&1 >/dev/null) || not_given "$1" "$said"
    for folder in media protected; do
        from=$(find "$staged/srv" -mindepth 2 -maxdepth 2 -type d -name "$folder" 2>/dev/null | head -n 1)
        [ -n "$from" ] && [ -d "$srv/$folder" ] || continue
        mv -T "$from" "$staged/$folder"
        # A host that is new may have other numbers for the same users.
        chown -R --no-dereference "$(stat -c %U:%G "$srv/$folder")" "$staged/$folder"
        chmod --reference "$srv/$folder" "$staged/$folder"
    done
}

stop() {
    systemctl stop "$name-beat@*.service" "$name-worker@*.service" "$name-web@*.service" "$name-manage@*.service"
}

is_there() { # DATABASE
    [ "$(echo "SELECT 1 FROM pg_database WHERE datname = '$1'" | sql postgres)" = 1 ]
}

# Rename databases, in one transaction. Nobody is connected meanwhile.
rename() { # FROM TO, FROM TO
    sql postgres >/dev/null <<SQL || { allow "$1" && fail "cannot rename the database: the line above says why"; }
SELECT format('ALTER DATABASE %I ALLOW_CONNECTIONS false', datname) FROM pg_database WHERE datname IN ('$1', '$3') \gexec
SELECT pg_terminate_backend(pid, 10000) FROM pg_stat_activity WHERE datname IN ('$1', '$3');
BEGIN;
SELECT format('ALTER DATABASE %I RENAME TO $2', datname) FROM pg_database WHERE datname = '$1' \gexec
ALTER DATABASE $3 RENAME TO $4;
COMMIT;
SQL
    allow "$4"
}

allow() {
    sql postgres <<SQL
SELECT format('ALTER DATABASE %I ALLOW_CONNECTIONS true', datname) FROM pg_database WHERE datname = '$1' \gexec
SQL
}

switch() { # ID
    take_lock
    if has_role database && is_there "$restored"; then
        before=${short}_before_$1
        number=1
        while is_there "$before"; do
            number=$((number + 1))
            before=${short}_before_$1_$number
        done
        echo "$before" >"$record/switched"
        rename "$database" "$before" "$restored" "$database"
        ! is_there "$before" || echo "the database before is kept as $before"
    fi
    echo "$1" >"$record/replaced"
    mkdir -p "$kept/$1"
    chmod 700 "$kept"
    for folder in media protected; do
        [ -d "$staged/$folder" ] || continue
        if mountpoint -q "$srv/$folder"; then
            cp -a "$staged/$folder/." "$srv/$folder/" # a share: what is there and not in the backup stays
            continue
        fi
        rm -rf "${kept:?}/$1/$folder"
        mv -T "$srv/$folder" "$kept/$1/$folder"
        mv -T "$staged/$folder" "$srv/$folder"
    done
    rmdir "$kept/$1" "$kept" 2>/dev/null || true
}

back() {
    take_lock
    if has_role database && [ -s "$record/switched" ]; then
        before=$(cat "$record/switched")
        ! is_there "$before" || rename "$database" "$restored" "$before" "$database"
    fi
    if [ -s "$record/replaced" ]; then
        id=$(cat "$record/replaced")
        for folder in media protected; do
            [ -d "$kept/$id/$folder" ] || continue
            rm -rf "${srv:?}/$folder"
            mv -T "$kept/$id/$folder" "$srv/$folder"
        done
        rmdir "$kept/$id" "$kept" 2>/dev/null || true
    fi
    finish
}

finish() {
    rm -rf "$staged" "$spool/restore"
    rm -f "$record/switched" "$record/replaced"
    ! has_role database || echo "DROP DATABASE IF EXISTS $restored WITH (FORCE)" | sql postgres
}

drop() { # ID
    rm -rf "${kept:?}/$1"
    rmdir "$kept" 2>/dev/null || true
    has_role database || return 0
    sql postgres <<SQL
SELECT format('DROP DATABASE %I WITH (FORCE)', datname) FROM pg_database
WHERE datname LIKE replace('${short}_before_$1', '_', '\_') || '%' \gexec
SQL
}

verb=${1:-}
[ $# -eq 0 ] || shift
case $verb in
    prepare | files | switch | drop)
        if [ $# -ne 1 ] || ! is_id "$1"; then fail "usage: $verb ID"; fi
        case $verb in
            switch | drop) ;;
            *)
                load_configuration
                take_lock
                ;;
        esac
        case $verb in
            files) fetch_files "$1" ;;
            *) "$verb" "$1" ;;
        esac
        ;;
    ask) ;;
    start) "/usr/local/sbin/$name-helper" boot ;;
    stop | back | finish) "$verb" ;;
    *) fail "VERB must be ask, prepare, files, stop, switch, back, start, finish or drop" ;;
esac
