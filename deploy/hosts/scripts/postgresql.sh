# shellcheck shell=sh
# shellcheck disable=SC2317,SC2329 # facts.sh and apply.sh, which follow, call these
# The database on its host: functions for facts.sh and apply.sh. The role and the database are called `site`.

# Replace %PG% in a name with the version of PostgreSQL that listens on the default port.
real() {
    case $1 in
        *%PG%*) ;;
        *)
            echo "$1"
            return
            ;;
    esac
    version=none
    for folder in /etc/postgresql/*/main; do
        found=${folder#/etc/postgresql/}
        found=${found%/main}
        case $found in
            # The folders belong to postgres, who could name one so that the path leads elsewhere.
            *[!0-9]*) continue ;;
        esac
        if grep -qs '^port = 5432' "$folder/postgresql.conf"; then version=$found; fi
    done
    echo "${1%%\%PG%*}$version${1#*\%PG%}"
}

# Run SQL from standard input as the server's administrator.
as_postgres() {
    runuser -u postgres -- psql -X -A -t -q -v ON_ERROR_STOP=1 -d postgres
}

# Print what is missing: server, role, database, password. The second line of the password file is a digest of the
# server's verifier for the password.
database_missing() {
    made=$(sed -n 2p "/etc/$1/database_password" 2>/dev/null || true)
    case $made in
        *[!0-9a-f]*) made= ;;
    esac
    as_postgres 2>/dev/null <<SQL || echo "server role database password"
SELECT concat_ws(' ',
    CASE WHEN NOT EXISTS (SELECT FROM pg_roles WHERE rolname = 'site' AND rolcanlogin AND NOT rolsuper) THEN 'role' END,
    CASE WHEN NOT EXISTS (SELECT FROM pg_database JOIN pg_roles ON datdba = pg_roles.oid
                          WHERE datname = 'site' AND rolname = 'site') THEN 'database' END,
    CASE WHEN NOT EXISTS (SELECT FROM pg_authid WHERE rolname = 'site' AND md5(rolpassword) = '$made') THEN 'password' END
)
SQL
}

database_make() {
    file=/etc/$1/database_password
    password=$(head -n 1 "$file" 2>/dev/null || true)
    [ -n "$password" ] || password=$(od -A n -N 24 -t x1 /dev/urandom | tr -d ' \n')
    # Otherwise the server could log the statement, and with it the password.
    verifier=$(
        as_postgres <<SQL
SET log_statement = 'none';
SET log_min_error_statement = 'panic';
SET log_min_duration_statement = -1;
SET password_encryption = 'scram-sha-256';
SELECT 'CREATE ROLE site' WHERE NOT EXISTS (SELECT FROM pg_roles WHERE rolname = 'site') \\gexec
ALTER ROLE site WITH LOGIN NOSUPERUSER NOCREATEDB NOCREATEROLE NOREPLICATION NOBYPASSRLS PASSWORD '$password';
SELECT 'CREATE DATABASE site OWNER site TEMPLATE template0 ENCODING ''UTF8'' LC_COLLATE ''C.UTF-8'' LC_CTYPE ''C.UTF-8'''
WHERE NOT EXISTS (SELECT FROM pg_database WHERE datname = 'site') \\gexec
ALTER DATABASE site OWNER TO site;
SELECT md5(rolpassword) FROM pg_authid WHERE rolname = 'site';
SQL
    ) || return 1
    printf '%s\n%s\n' "$password" "$verifier" >"$file.new"
    mv "$file.new" "$file"
}
