# shellcheck shell=sh
# shellcheck disable=SC2154 # `dumps`, which is read first, sets name, etc, record, spool, database
# Installed as /usr/local/lib/NAME/backup, for root. Units and the helper run it:
#
#   run timer|asked|migration     a backup: the database and the site's files of this host, as one snapshot
#   run verify                    restore the latest backup into a cluster of its own, and compare
#   list                          print the backups of the site, as restic's JSON
#   prepare                       open the repository, or make it if there is none
#   copy RELEASE                  without a repository: a copy of the database on this host; prints its path
#
# No verb removes a backup, or a copy, on behalf of who calls it: what goes is decided by age alone.
set -eu
# shellcheck source=/dev/null
. "${0%/*}/dumps"

#: Seconds for the host with the database, which is set up at the same time, to make the repository.
longest_wait=900
#: Seconds after a backup within which another that is asked for is the same one.
recent=300
#: Copies that stay: all of so many days, and the last one of each of so many days before.
young_days=2 old_days=10 most_copies=60

is_release() {
    case $1 in
        [0-9][0-9][0-9][0-9][0-9][0-9][0-9][0-9]-[0-9][0-9][0-9][0-9][0-9][0-9]-*) ;;
        *) return 1 ;;
    esac
    case ${1#????????-??????-} in "" | *[!0-9a-f]*) return 1 ;; esac
}

# Set `release` and `revision` to what serves. A host without the site is told by each deploy (serving.sh). The files
# belong to the deploy user, and are read as that user.
serving() {
    state=/srv/$name/state
    # shellcheck disable=SC2016 # that user's shell expands it
    said=$(timeout 10 setpriv --reuid "$(stat -c %u "$state")" --regid "$(stat -c %g "$state")" --clear-groups -- sh -c '
        if [ -L "$0/current" ]; then
            release=$(readlink "$0/current")
            printf "%s " "${release##*/}"
            sed -n "s/.*\"commit\": *\"\([0-9a-f]*\)\".*/\1/p" "$0/current/release.json"
        else cat "$0/serving"; fi' "$state" </dev/null 2>/dev/null | head -n 1) || said=
    release=${said%% *} revision=${said##* }
    is_release "$release" || release=none
    case $revision in "" | *[!0-9a-f]*) revision=none ;; esac
}

# A number that is the same as long as nothing in the cluster has been written.
written() {
    echo 'SELECT pg_snapshot_xmax(pg_current_snapshot())' | sql postgres
}

last() { # FIELD: 1 ID, 2 seconds since the epoch, 3 `written` at that time
    [ -s "$record/last" ] || return 0
    cut -d ' ' -f "$1" "$record/last"
}

tell_status() { # FILE, LINE
    (umask 022 && printf '%s\n' "$2" >"$record/.$1" && mv "$record/.$1" "$record/$1")
}

make() { # WHY
    take_lock
    why=$1
    set --
    files=$spool/set
    rm -rf "$files"
    made=$(last 2)
    ago=$(($(date +%s) - ${made:-0}))
    mark=-
    ! has_role database || mark=$(written)
    if [ "$why" = asked ] && [ "$ago" -lt "$recent" ]; then
        echo "backup $(last 1) was made $ago s ago"
        return
    fi
    if [ "$why" = migration ] && [ "$mark" != - ] && [ "$mark" = "$(last 3)" ]; then
        echo "nothing has been written since backup $(last 1)"
        return
    fi
    mkdir -p "$files"
    trap 'code=$?; rm -rf "$files"; [ "$code" -eq 0 ] || tell_status failed "$(date +%s)"' EXIT
    trap 'exit 143' TERM HUP INT
    serving
    part=",part=$HOST" server=none
    if has_role database; then
        part='' server=postgresql-$(major)
        dump "$database" "$files"
        sum=$(sha256sum <"$files/database.dump")
        {
            printf '{"version": 1, "site": "%s", "release": "%s", "revision": "%s", "sha256": "%s", "size": %s, ' \
                "$SITE" "$release" "$revision" "${sum%% *}" "$(stat -c %s "$files/database.dump")"
            sed '1s/^{//' "$files/facts.json"
        } >"$files/manifest.json"
        rm "$files/facts.json"
        set -- "$files"
    fi
    for folder in $FOLDERS; do
        [ ! -d "$folder" ] || set -- "$@" "$folder"
    done
    [ $# -gt 0 ] || fail "there is nothing to back up on this host"
    # Removes locks of processes that are gone.
    restic --quiet unlock || true
    keep_snapshot "portico,site=$SITE,release=$release,revision=$revision,why=$why,database=$server$part" "$@"
    tell_status last "$id $(date +%s) $mark"
    echo "backup $id of release $release"
    forget
    rm -f "$record/failed"
}

# Sets `id`. A snapshot that lacks a file goes again, and is tried again: files of the site may vanish meanwhile.
keep_snapshot() { # TAGS, FOLDER…
    tags=$1
    shift
    for _ in 1 2 3; do
        code=0
        said=$(restic --quiet --json backup --host "$HOST" --tag "$tags" -- "$@") || code=$?
        id=$(printf '%s\n' "$said" | sed -n 's/.*"snapshot_id": *"\([0-9a-f]\{8\}\).*/\1/p' | tail -n 1)
        if [ "$code" -eq 0 ] && is_id "$id"; then return; fi
        if [ "$code" -ne 3 ] || ! is_id "$id"; then fail "restic cannot write the backup: the lines above say why"; fi
        restic --quiet forget "$id" || true
    done
    fail "files could not be read, three times: the lines above name them"
}

# What is too old goes, of this host and site only, and only after a success.
forget() {
    for _ in 1 2 3 4 5 6; do
        # shellcheck disable=SC2086 # several words
        said=$(restic --quiet forget --prune --host "$HOST" --tag "portico,site=$SITE" --group-by host $KEEP 2>&1) && return
        case $said in *lock*) sleep 20 ;; *) break ;; esac
    done
    printf '%s\n' "$said" >&2
    fail "backup $id is made, but old ones cannot be removed: the line above says why"
}

list() {
    errors=$(mktemp)
    trap 'rm -f "$errors"' EXIT
    timeout 300 restic --quiet --no-lock --json snapshots --tag "portico,site=$SITE" 2>"$errors" || fail "$(reason "$(cat "$errors")")"
}

prepare() {
    case $RESTIC_REPOSITORY in /*) mkdir -p "$RESTIC_REPOSITORY" ;; esac
    mkdir -p "$record"
    chmod 755 "$record"
    waited=0
    until said=$(timeout 120 restic --quiet --no-lock cat config 2>&1); do
        case $said in
            *'wrong password'* | *'no key found'*) fail "$(reason "$said")" ;;
        esac
        if is_mine; then
            said=$(timeout 300 restic --quiet init 2>&1) || fail "$(printf '%s\n' "$said" | grep . | tail -n 1)"
            echo "made the repository $RESTIC_REPOSITORY"
            break
        fi
        case $said in
            *'there a repository at'*) ;;
            *) fail "$(printf '%s\n' "$said" | grep . | tail -n 1)" ;;
        esac
        [ "$waited" -lt "$longest_wait" ] ||
            fail "there is no repository at $RESTIC_REPOSITORY yet: the host with the database makes it; \`remote-setup\` there first"
        sleep 3
        waited=$((waited + 3))
    done
    tell_status repository "$RESTIC_REPOSITORY"
}

# Whether this host makes the repository, if there is none: its own folder, or the one of all hosts, which one of them
# makes. Two that make the same one at once would each leave a key that does not fit the other's.
is_mine() {
    case $RESTIC_REPOSITORY in /*) return 0 ;; esac
    has_role database
}

# --- The proof

verify() {
    take_lock
    proof=/var/lib/postgresql/$name-proof
    from=$spool/proof
    bin=$(find /usr/lib/postgresql -path '*/bin/initdb' | sort -V | tail -n 1)
    bin=${bin%/*}
    clean_up
    id=$(latest)
    is_id "$id" || fail "there is no backup yet"
    trap 'code=$?; clean_up; [ "$code" -eq 0 ] || tell_status proved "failed $id $(date +%s)"' EXIT
    trap 'exit 143' TERM HUP INT
    fetch_set "$id" "$from"
    require_whole "$set_of_files"
    as_postgres "$bin/initdb" -D "$proof" -A peer -E UTF8 --locale=C.UTF-8 --no-sync >/dev/null
    # Nobody else reaches it: it listens only to a socket in its folder, which is its user's.
    as_postgres "$bin/pg_ctl" -D "$proof" -s -w -t 60 -l "$proof/log" start \
        -o "-c listen_addresses='' -k $proof -c fsync=off -c jit=off -c autovacuum=off" </dev/null >/dev/null
    # shellcheck disable=SC2034 # sql and load use it
    sockets=$proof
    echo "CREATE ROLE $database" | sql postgres
    load "$set_of_files" "$database" "$database"
    tell_status proved "ok $id $(date +%s)"
    echo "backup $id is whole: $(field "$set_of_files/manifest.json" size) bytes, and each table has its rows"
}

clean_up() {
    [ ! -s "$proof/postmaster.pid" ] || as_postgres "$bin/pg_ctl" -D "$proof" -m immediate -s stop || true
    rm -rf "$proof" "$from"
}

# The latest backup that has a database.
latest() {
    list | tr -d '\n' | sed 's/},{/}\n{/g' | grep -v '"part=' | sed -n 's/.*"short_id":"\([0-9a-f]*\)".*/\1/p' | tail -n 1
}

# --- Copies on this host, without a repository

copy() { # RELEASE
    has_role database || fail "the database is not on this host"
    mark=$(written)
    file=$spool/$(date -u +%Y%m%d-%H%M%S)-before-$1.dump
    rm -f "$spool"/.*.part # left by one that was interrupted
    set -- "$spool"/*-before-*.dump
    newest=
    for each in "$@"; do newest=$each; done
    if [ -e "$newest" ] && [ "$(cat "$spool/.written" 2>/dev/null)" = "$mark $newest" ]; then
        echo "$newest"
        return
    fi
    young=$(find "$spool" -name '*-before-*.dump' -mtime "-$young_days" | wc -l)
    [ "$young" -lt "$most_copies" ] || fail "$spool has $young copies of the last $young_days days: root removes those that are not needed"
    trap 'rm -f "$spool/.$$.part"' EXIT
    as_postgres pg_dump --format custom --no-password "$database" </dev/null >"$spool/.$$.part" ||
        fail "cannot copy the database to $spool"
    sync "$spool/.$$.part"
    mv "$spool/.$$.part" "$file"
    echo "$mark $file" >"$spool/.written"
    trap - EXIT
    old_copies | while read -r each; do rm -f "$spool/$each"; done
    echo "$file"
}

# The copies that may go, by their dates alone: not young, and not the last one of one of the latest days.
old_copies() {
    limit=$(date -u -d "-$young_days days" +%Y%m%d-%H%M%S)
    (cd "$spool" && ls -1r -- *-before-*.dump) | awk -v limit="$limit" -v days="$old_days" '
        substr($0, 1, 15) < limit { day = substr($0, 1, 8); if (day != last) { last = day; count++ } else { print; next }
                                    if (count > days) print }'
}

verb=${1:-}
[ $# -eq 0 ] || shift
case $verb in
    copy)
        if [ $# -ne 1 ] || ! is_release "$1"; then fail "usage: copy RELEASE"; fi
        copy "$1"
        ;;
    run)
        load_configuration
        case ${1:-} in
            timer | asked | migration) make "$1" ;;
            verify) verify ;;
            *) fail "usage: run timer|asked|migration|verify" ;;
        esac
        ;;
    list | prepare)
        load_configuration
        "$verb"
        ;;
    *) fail "VERB must be run, list, prepare or copy" ;;
esac
