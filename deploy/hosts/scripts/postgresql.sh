# shellcheck shell=sh
# shellcheck disable=SC2317,SC2329 # facts.sh and apply.sh, which follow, call these
# The database on its host: functions for facts.sh and apply.sh. The role and the database have one name, which
# has only letters, digits and _.

# The clusters, a line each: version, name, port, status.
clusters() {
    pg_lsclusters -h 2>/dev/null | while read -r version cluster port status _; do
        # Names become parts of paths and units.
        case $version$cluster$port in
            *[!A-Za-z0-9_.]*) continue ;;
        esac
        case $version$port in
            *[!0-9]*) continue ;;
        esac
        echo "$version $cluster $port $status"
    done
}

# Make the cluster that Debian's package does not make if the system's locale is not generated.
cluster_make() {
    [ -z "$(clusters)" ] || return 0
    version=$(find /usr/lib/postgresql -mindepth 1 -maxdepth 1 -printf '%f\n' 2>/dev/null | sort -n | tail -n 1)
    [ -n "$version" ] || return 0
    (umask 022 && LC_ALL=C.UTF-8 pg_createcluster "$version" main --port 5432) >/dev/null
}

# Replace %PG% in a name with the cluster that listens on the default port: VERSION/NAME in a path, VERSION-NAME in a
# unit.
real() {
    case $1 in
        *%PG%*) ;;
        *)
            echo "$1"
            return
            ;;
    esac
    found=$(clusters | while read -r version cluster port _; do
        if [ "$port" = 5432 ]; then echo "$version $cluster" && break; fi
    done)
    [ -n "$found" ] || found="none none"
    case $1 in
        *.service) found="${found% *}-${found#* }" ;;
        *) found="${found% *}/${found#* }" ;;
    esac
    echo "${1%%\%PG%*}$found${1#*\%PG%}"
}

# Run SQL from standard input as the server's administrator.
as_postgres() {
    runuser -u postgres -- psql -X -A -t -q -v ON_ERROR_STOP=1 -d postgres
}

# Print what is missing: server, role, database, password. The second line of the password file is a digest of the
# server's verifier for the password.
database_missing() { # NAME DATABASE
    made=$(sed -n 2p "/etc/$1/database_password" 2>/dev/null || true)
    case $made in
        *[!0-9a-f]*) made= ;;
    esac
    as_postgres 2>/dev/null <<SQL || echo "server role database password"
SELECT concat_ws(' ',
    CASE WHEN NOT EXISTS (SELECT FROM pg_roles WHERE rolname = '$2' AND rolcanlogin AND NOT rolsuper) THEN 'role' END,
    CASE WHEN NOT EXISTS (SELECT FROM pg_database JOIN pg_roles ON datdba = pg_roles.oid
                          WHERE datname = '$2' AND rolname = '$2') THEN 'database' END,
    CASE WHEN NOT EXISTS (SELECT FROM pg_authid WHERE rolname = '$2' AND md5(rolpassword) = '$made') THEN 'password' END
)
SQL
}

database_make() { # NAME DATABASE
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
SELECT 'CREATE ROLE $2' WHERE NOT EXISTS (SELECT FROM pg_roles WHERE rolname = '$2') \\gexec
ALTER ROLE $2 WITH LOGIN NOSUPERUSER NOCREATEDB NOCREATEROLE NOREPLICATION NOBYPASSRLS PASSWORD '$password';
SELECT 'CREATE DATABASE $2 OWNER $2 TEMPLATE template0 ENCODING ''UTF8'' LC_COLLATE ''C.UTF-8'' LC_CTYPE ''C.UTF-8'''
WHERE NOT EXISTS (SELECT FROM pg_database WHERE datname = '$2') \\gexec
ALTER DATABASE $2 OWNER TO $2;
SELECT md5(rolpassword) FROM pg_authid WHERE rolname = '$2';
SQL
    ) || return 1
    printf '%s\n%s\n' "$password" "$verifier" >"$file.new"
    mv "$file.new" "$file"
}

# Remove the database and its role, or keep both and let nobody log in. A rotation that did not end has left a second.
database_remove() { # DATABASE all|role
    systemctl -q is-active 'postgresql@*' || return 1
    if [ "$2" = role ]; then
        as_postgres <<SQL
SELECT format('ALTER ROLE %I NOLOGIN', rolname) FROM pg_roles WHERE rolname IN ('$1', '$1.next') \\gexec
SQL
        return
    fi
    as_postgres <<SQL
DROP DATABASE IF EXISTS $1 WITH (FORCE);
SELECT format('DROP DATABASE %I WITH (FORCE)', datname) FROM pg_database
WHERE datname ~ ('^' || left('$1', 46) || '_(restored|before_[0-9a-f]{8}(_[0-9]+)?)\$') \\gexec
DROP ROLE IF EXISTS "$1.next";
DROP ROLE IF EXISTS $1;
SQL
}
