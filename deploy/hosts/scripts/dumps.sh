# shellcheck shell=sh
# shellcheck disable=SC2034,SC2317,SC2329 # backup.sh and restore.sh, which read this, use them
# Installed as /usr/local/lib/NAME/dumps: what `backup` and `restore` beside it have in common. Root's, and read by root.
PATH=/usr/sbin:/usr/bin:/sbin:/bin
LC_ALL=C.UTF-8
PGOPTIONS="-c client_min_messages=warning"
export PATH LC_ALL PGOPTIONS
umask 077
cd /

name=${0%/*}
name=${name##*/}
etc=/etc/$name
#: What status reads: the last backup and the last proof. Other users may read it, and only root writes it.
record=/var/lib/$name-backup
spool=/var/backups/$name

fail() { # WHY
    echo "$1" >&2
    exit 1
}

is_id() {
    case $1 in *[!0-9a-f]*) return 1 ;; esac
    [ "${#1}" -eq 8 ]
}

has_role() {
    case " $(cat "$etc/roles") " in *" $1 "*) ;; *) return 1 ;; esac
}

# The repository, its password and what else restic reads (written by setup; only root reads the second file).
load_configuration() {
    [ -s "$etc/backup.env" ] || fail "no repository is named: set backup in the environment file, then \`remote-setup\`"
    set -a
    # shellcheck source=/dev/null
    . "$etc/backup.conf"
    # shellcheck source=/dev/null
    . "$etc/backup.env"
    RESTIC_CACHE_DIR=/var/cache/$name-backup
    set +a
}

# Why restic failed, in one line, from what it said: its exit codes tell it since 0.17, and Debian 12 has 0.14.
reason() { # WHAT IT SAID
    case $1 in
        *'wrong password'* | *'no key found'*)
            echo "the repository $RESTIC_REPOSITORY has another password: correct backup.password in the environment file, then \`remote-setup\`"
            ;;
        *'there a repository at'* | *'repository does not exist'*)
            echo "there is no repository at $RESTIC_REPOSITORY: bring it back (is its disk mounted?), or make a new one with \`sudo /usr/local/lib/$name/backup prepare\`"
            ;;
        *'no matching ID'* | *'no snapshot found'*) echo "the repository has no such backup" ;;
        *'already locked'*) echo "another program uses the repository, or left its lock, which lapses after 30 minutes: retry then" ;;
        *) printf '%s\n' "$1" | grep . | tail -n 1 ;;
    esac
}

not_given() { # ID, WHAT RESTIC SAID
    printf '%s\n' "$2" >&2
    fail "the repository cannot give backup $1 back: $(reason "$2")"
}

# One at a time on a host: backups, restores, proofs.
take_lock() {
    exec 9>"$record/lock"
    flock -w 3600 9 || fail "another backup or restore of this host is still running"
}

# --- The database

database=$(cat "$etc/database")
port=5432
sockets=/var/run/postgresql

# Without PAM, which would write of each session into the journal.
as_postgres() { # WORD…
    setpriv --reuid postgres --regid postgres --init-groups -- "$@"
}

sql() { # DATABASE, OPTIONS…; SQL from standard input
    on=$1
    shift
    as_postgres psql -X -A -t -q -v ON_ERROR_STOP=1 -h "$sockets" -p "$port" -d "$on" "$@"
}

major() { # of the server
    echo 'SHOW server_version_num' | sql postgres | sed 's/....$//'
}

# What a restore compares, as one JSON object: the rows of each table, and what must be there before them. Extensions
# have tables of their own, which no dump contains.
facts_sql="SELECT json_build_object(
    'server', current_setting('server_version_num')::int / 10000,
    'extensions', (SELECT coalesce(json_agg(extname ORDER BY extname), '[]') FROM pg_extension),
    'roles', (SELECT coalesce(json_agg(DISTINCT rolname), '[]') FROM pg_shdepend JOIN pg_roles ON pg_roles.oid = refobjid
        WHERE refclassid = 'pg_authid'::regclass
        AND dbid = (SELECT oid FROM pg_database WHERE datname = current_database())),
    'rows', (SELECT coalesce(json_object_agg(title, number ORDER BY title), '{}') FROM (
        SELECT format('%I.%I', nspname, relname) AS title, (xpath('/row/n/text()', query_to_xml(
            format('SELECT count(*) AS n FROM %I.%I', nspname, relname), false, true, '')))[1]::text::bigint AS number
        FROM pg_class JOIN pg_namespace ON pg_namespace.oid = relnamespace
        WHERE relkind = 'r' AND relpersistence <> 't' AND nspname <> 'information_schema' AND nspname !~ '^pg_'
        AND NOT EXISTS (SELECT FROM pg_depend WHERE classid = 'pg_class'::regclass AND objid = pg_class.oid
            AND deptype = 'e')) AS counted))"

# Dump a database with what a restore compares, both of one moment: FOLDER/database.dump, FOLDER/facts.json.
dump() { # DATABASE, FOLDER
    : >"$2/dumped"
    if ! sql "$1" 3>"$2/database.dump" 4>>"$2/dumped" >"$2/facts.json" <<SQL; then
BEGIN ISOLATION LEVEL REPEATABLE READ READ ONLY;
SELECT pg_export_snapshot() AS snapshot \\gset
\\setenv SNAPSHOT :snapshot
\\! pg_dump --snapshot "\$SNAPSHOT" --format custom --compress 0 --no-password --lock-wait-timeout 120000 -h $sockets -p $port $1 >&3 && echo whole >&4
$facts_sql;
COMMIT;
SQL
        fail "cannot read the database: the lines above say why"
    fi
    [ "$(cat "$2/dumped")" = whole ] || fail "pg_dump failed: the lines above say why"
    rm "$2/dumped"
    as_postgres pg_restore --list <"$2/database.dump" >/dev/null || fail "the dump cannot be read back"
}

field() { # FILE NAME: a number, or a word without quotes
    sed -n "s/.*\"$2\" *: *\"\\{0,1\\}\\([A-Za-z0-9._-]*\\).*/\\1/p" "$1" | head -n 1
}

# Whether a folder has what `backup` puts into it. Before anything is touched.
require_whole() { # FOLDER
    for file in manifest.json database.dump; do
        [ -s "$1/$file" ] || fail "the backup has no $file"
    done
    sum=$(sha256sum <"$1/database.dump")
    [ "${sum%% *}" = "$(field "$1/manifest.json" sha256)" ] || fail "the backup's database.dump is not the one that was made: its sha256 differs"
    as_postgres pg_restore --list <"$1/database.dump" >/dev/null || fail "the backup's database.dump cannot be read"
}

# An expression of the manifest, as SQL. A random word ends the text, so that no manifest can.
manifest_sql() { # FILE
    word=m$(od -A n -N 8 -t x1 /dev/urandom | tr -d ' \n')
    printf '$%s$%s$%s$::jsonb' "$word" "$(cat "$1")" "$word"
}

# Load a dump into a fresh database and compare: each table has as many rows as the manifest says.
load() { # FOLDER, DATABASE, ITS OWNER
    manifest=$(manifest_sql "$1/manifest.json")
    sql postgres <<SQL || fail "cannot create the database $2"
DROP DATABASE IF EXISTS $2 WITH (FORCE);
CREATE DATABASE $2 OWNER $3 TEMPLATE template0 ENCODING 'UTF8' LC_COLLATE 'C.UTF-8' LC_CTYPE 'C.UTF-8';
SQL
    missing=$(sql postgres <<SQL
SELECT string_agg(name, ', ') FROM jsonb_array_elements_text($manifest->'roles') AS name
WHERE name NOT IN (SELECT rolname FROM pg_roles);
SQL
    ) || fail "the backup's manifest.json cannot be read"
    # Only a superuser may make most extensions, and say what they are.
    sql "$2" <<SQL || fail "an extension that the backup needs is not installed here: the line above names it"
SELECT format('CREATE EXTENSION IF NOT EXISTS %I CASCADE', name) FROM jsonb_array_elements_text($manifest->'extensions') AS name \\gexec
SQL
    as_postgres pg_restore --list <"$1/database.dump" | grep -v -e ' EXTENSION ' -e ' COMMENT - EXTENSION ' >"$1/list"
    chmod 644 "$1/list"
    set -- "$1" "$2" "$3" --exit-on-error --no-password -h "$sockets" -p "$port" --dbname "$2"
    if [ -n "$missing" ]; then
        echo "without rights of roles that this server does not have: $missing; all belongs to $3"
        set -- "$@" --no-owner --no-privileges --role "$3"
    fi
    folder=$1 into=$2
    shift 3
    # The folder is root's: postgres gets its files as streams.
    as_postgres pg_restore "$@" --use-list /dev/fd/3 3<"$folder/list" <"$folder/database.dump" ||
        fail "pg_restore failed: the line above says why"
    differ=$(sql "$into" <<SQL
WITH found AS ($facts_sql AS facts)
SELECT string_agg(format('%s has %s rows instead of %s', key, coalesce(b.value, 'no'), coalesce(a.value, 'no')), ', ')
FROM jsonb_each_text($manifest->'rows') AS a
FULL JOIN (SELECT * FROM found, jsonb_each_text(facts::jsonb->'rows')) AS b USING (key)
WHERE a.value IS DISTINCT FROM b.value;
SQL
    ) || fail "the restored rows cannot be counted"
    [ -z "$differ" ] || fail "what was restored is not what was backed up: $differ"
    echo ANALYZE | sql "$into"
}

# What a snapshot of the database has, in FOLDER; sets `set_of_files`.
fetch_set() { # ID FOLDER
    said=$(restic --quiet restore "$1" --target "$2" --exclude /srv 2>&1 >/dev/null) || not_given "$1" "$said"
    set_of_files=$(find "$2" -type d -name set | head -n 1)
    [ -n "$set_of_files" ] || fail "backup $1 has no database"
}
