# shellcheck shell=sh
# shellcheck disable=SC2034,SC2154 # postgresql.sh, rabbitmq.sh and redis.sh, which come before, use the names
# A new password of the site for a server on its hosts, as root, step by step. For a while a second one is valid beside
# the first, so that no process is without one that is. PostgreSQL and RabbitMQ have one password for an account: so it
# is a second account, NAME.next, with the rights of the first. No name of a site has a dot.
#
# Standard input, each a line: the step, the server, the site's names (Layout.names), and for `write` the lines of
# services.env (VARIABLE=URL), which replace those that are there.
#   begin    make the second password, or go on with the one that an interrupted rotation has made
#   change   give the account itself a new password (Redis: what was the second one is the only one)
#   end      only that password is valid
#   write    the site's processes on this host get these lines when they start
# Standard output of begin and change: `first` and `second`, each with an account, a place and a password.
set -eu
PATH=/usr/sbin:/usr/bin:/sbin:/bin
LC_ALL=C.UTF-8
export PATH LC_ALL
umask 077
cd /
IFS= read -r step
IFS= read -r server
IFS= read -r names
set -f
# shellcheck disable=SC2086 # several words
set -- $names
set +f
name=$1 database=$3 account=$4 vhost=$5

fail() {
    echo "$1" >&2
    exit 1
}
exec 8>/run/setup.lock
flock -n 8 || fail "somebody is setting this host up; retry when that has finished"
case $server in
    database) place=$database first=$database ;;
    broker)
        broker_names "$name"
        place=$vhost first=$account
        ;;
    redis) place='' first='' ;;
    *) fail "unknown server: $server" ;;
esac
file=/etc/$name/${server}_password
next=$file.next
second=$first.next
random() { od -A n -N 24 -t x1 /dev/urandom | tr -d ' \n' && echo; }

# --- PostgreSQL: whoever signs in as the second role acts as the first, and what it makes is the first's.

# The second role may come from where the first may; setup writes the file without these lines.
admit() { # yes|no
    hba=$(real /etc/postgresql/%PG%/pg_hba.conf)
    # shellcheck disable=SC2016 # that user's shell expands it
    runuser -u postgres -- sh -c '
        { [ "$2" = no ] || also="s/^hostssl $3 $3 \(.*\)/&\nhostssl $3 \"$3.next\" \1/"
          sed -e "/^hostssl $3 \"$3[.]next\" /d" "$1" | sed -e "${also-}"; } >"$1.next" &&
            chmod 640 "$1.next" && mv -f -T "$1.next" "$1"' sh "$hba" "$1" "$database" || fail "cannot write $hba"
    echo 'SELECT pg_reload_conf()' | as_postgres >/dev/null
}
database_begin() {
    as_postgres <<SQL >/dev/null || fail "cannot create a second role: journalctl -u postgresql may show why"
SET log_statement = 'none';
SET log_min_error_statement = 'panic';
SET log_min_duration_statement = -1;
SET password_encryption = 'scram-sha-256';
SELECT 'CREATE ROLE "$second"' WHERE NOT EXISTS (SELECT FROM pg_roles WHERE rolname = '$second') \\gexec
ALTER ROLE "$second" WITH LOGIN INHERIT NOSUPERUSER NOCREATEDB NOCREATEROLE NOREPLICATION NOBYPASSRLS PASSWORD '$1';
GRANT $database TO "$second";
ALTER ROLE "$second" SET role TO $database;
SQL
    admit yes
}
database_end() {
    admit no
    as_postgres <<SQL >/dev/null || fail "cannot remove the second role: journalctl -u postgresql may show why"
\\connect $database
SELECT 'REASSIGN OWNED BY "$second" TO $database' WHERE EXISTS (SELECT FROM pg_roles WHERE rolname = '$second') \\gexec
SELECT 'DROP OWNED BY "$second"' WHERE EXISTS (SELECT FROM pg_roles WHERE rolname = '$second') \\gexec
DROP ROLE IF EXISTS "$second";
SQL
}

# --- RabbitMQ

broker_begin() {
    broker_eval >/dev/null <<ERLANG || fail "cannot create a second user: /var/log/rabbitmq may show why"
Users = [proplists:get_value(user, User) || User <- rabbit_auth_backend_internal:list_users()],
case lists:member(<<"$second">>, Users) of
    true -> ok = rabbit_auth_backend_internal:change_password(<<"$second">>, <<"$1">>, <<"setup">>);
    false -> ok = rabbit_auth_backend_internal:add_user(<<"$second">>, <<"$1">>, <<"setup">>)
end,
ok = rabbit_auth_backend_internal:set_permissions(<<"$second">>, <<"$vhost">>, <<".*">>, <<".*">>, <<".*">>, <<"setup">>).
ERLANG
}
broker_end() {
    broker_eval >/dev/null <<ERLANG || fail "cannot remove the second user: /var/log/rabbitmq may show why"
Users = [proplists:get_value(user, User) || User <- rabbit_auth_backend_internal:list_users()],
case lists:member(<<"$second">>, Users) of
    true -> ok = rabbit_auth_backend_internal:delete_user(<<"$second">>, <<"setup">>);
    false -> ok
end.
ERLANG
}

# --- Redis: its only account has several passwords. One that restarts meanwhile has them from its file.

redis_tell() { # WORDS…
    said=$(printf '%s\n' "$*" | REDISCLI_AUTH=$(head -n 1 "$file") timeout 20 redis-cli --no-auth-warning --tls \
        --insecure -h 127.0.0.1 -p 6380 2>&1) || true
    [ "$said" = OK ] || fail "Redis does not take the password: journalctl -u $name-redis may show why"
}
# CONFIG SET requirepass does nothing if the password is the one of before, and leaves the second one valid.
redis_only() { # PASSWORD
    redis_tell ACL SETUSER default resetpass ">$1"
    printf 'requirepass %s\n' "$1" >"/etc/$name/redis.password.conf.new"
    mv "/etc/$name/redis.password.conf.new" "/etc/$name/redis.password.conf"
}
redis_begin() {
    redis_tell ACL SETUSER default ">$1"
    printf 'user default on ~* &* +@all >%s >%s\n' "$(head -n 1 "$file")" "$1" >"/etc/$name/redis.password.conf.new"
    mv "/etc/$name/redis.password.conf.new" "/etc/$name/redis.password.conf"
}

# --- The steps

read_second() {
    [ -s "$next" ] || fail "the rotation has not begun on this host; run the command again"
    second_password=$(head -n 1 "$next")
}
say() {
    printf 'first %s %s %s\n' "${first:--}" "${place:--}" "$(head -n 1 "$file")"
    printf 'second %s %s %s\n' "${second:--}" "${place:--}" "$(head -n 1 "$next")"
}

case $step in
    begin)
        [ -s "$file" ] || fail "it has no password for the $server yet: run remote-setup"
        # Processes may use what an interrupted rotation has made.
        if [ -s "$next" ]; then echo resumed; else random >"$next"; fi
        read_second
        "${server}_begin" "$second_password"
        say
        ;;
    change)
        read_second
        if [ "$server" = redis ]; then
            redis_only "$second_password"
            cp "$next" "$file.new"
            mv "$file.new" "$file"
        else
            mv "$file" "$file.old"
            "${server}_make" "$name" "$database" || {
                mv "$file.old" "$file"
                fail "cannot change the password; the earlier one is still valid"
            }
            rm "$file.old"
        fi
        say
        ;;
    end)
        if [ "$server" = redis ]; then
            redis_only "$(head -n 1 "$file")"
        else
            "${server}_end"
        fi
        rm -f "$next"
        ;;
    write)
        services=/etc/$name/services.env
        [ -f "$services" ] || fail "has no services.env: run remote-setup"
        cp "$services" "$services.new"
        while IFS= read -r line; do
            variable=${line%%=*}
            case $variable in *[!A-Z_]*) fail "that is no variable" ;; esac
            # In its place: setup writes them in the same order.
            while IFS= read -r old; do
                if [ "${old%%=*}" = "$variable" ]; then printf '%s\n' "$line"; else printf '%s\n' "$old"; fi
            done <"$services.new" >"$services.next"
            mv "$services.next" "$services.new"
        done
        mv "$services.new" "$services"
        ;;
    *) fail "unknown step: $step" ;;
esac
