# shellcheck shell=sh
# shellcheck disable=SC2317,SC2329,SC2154 # facts.sh, which follows, calls these, and sets `app`
# What is on a host that setup has not made, for facts.sh: `there KIND NAME WORD…`, a line each.
#
#   there path PATH | unit UNIT | user NAME UID | group NAME      of a name that setup would use
#   there nginx FILE                                              a site, or a main file that was edited
#   there nginx-main FILE                                         a main file that does not include sites-enabled
#   there nginx-beside FILE                                       our part of an nginx that serves others too
#   there database NAME | role NAME                               in the cluster on port 5432
#   there vhost NAME | broker-user NAME | queue NAME | node NAME  of a RabbitMQ; a node that does not run
#   there broker-beside FILE                                      our part of a RabbitMQ that others use too
#   there deployer NAME                                           a site of others whose deploy user is ours
#   there firewall ufw|firewalld                                  that is active
#   cluster VERSION NAME PORT STATUS
#   served NAME FILE                                              a name that nginx serves, and where that is said
#   listen PORT PROGRAM open|local                                a TCP port, and whether others may reach it

# Whether an earlier run of setup has begun here.
is_mine() { # NAME
    [ -e "/etc/$1/roles" ] || [ -e "/etc/$1/pending" ] || [ -e "/etc/portico.d/sites/$1" ] ||
        grep -qs "^$1 " /etc/portico-owner
}

there_names() { # NAME USER
    for path in "/etc/$1" "/srv/$1" "/usr/local/lib/$1" "/usr/local/sbin/$1-helper" "/etc/sudoers.d/$1" "/var/backups/$1" \
        "/etc/nginx/$1"; do
        if [ -e "$path" ] || [ -L "$path" ]; then echo "there path $path"; fi
    done
    for unit in "$1.service" "$1-web@.service" "$1-worker@.service" "$1-beat@.service" "$1-release@.service" \
        "$1-redis.service"; do
        if systemctl cat "$unit" >/dev/null 2>&1; then echo "there unit $unit"; fi
    done
    for user in "$2" "$app"; do
        if entry=$(getent passwd "$user"); then
            id=${entry#*:*:}
            id=${id%%:*}
            if [ "$user" = "$app" ] && [ "$id" -ge 1000 ]; then echo "there user $app $id"; fi
        elif getent group "$user" >/dev/null; then
            echo "there group $user"
        fi
    done
}

there_deployers() { # NAME USER
    for file in /etc/sudoers.d/*; do
        case ${file##*/} in "$1" | *.*) continue ;; esac
        ! grep -qs "^$2 ALL=(root:root) NOPASSWD: /usr/local/sbin/${file##*/}-helper$" "$file" ||
            echo "there deployer ${file##*/}"
    done
}

# Files of nginx with sites of others, unless nginx runs with our configuration.
there_nginx() { # NAME
    command -v nginx >/dev/null || return 0
    main=/etc/nginx/nginx.conf
    for drop_in in "/etc/systemd/system/nginx.service.d/$1.conf" /etc/systemd/system/nginx.service.d/portico.conf; do
        [ ! -e "$drop_in" ] || main=/etc/nginx/site/nginx.conf
    done
    nginx -T -c "$main" 2>/dev/null | awk '
        $1 == "#" && $2 == "configuration" && $3 == "file" { file = $4; sub(/:$/, "", file) }
        $1 == "server_name" { for (i = 2; i <= NF; i++) { name = $i; sub(/;.*/, "", name)
            if (name != "") print "served", name, file; if ($i ~ /;/) break } }' | sort -u
    [ "$main" = /etc/nginx/nginx.conf ] && [ -e "$main" ] || return 0
    beside=/etc/nginx/sites-enabled/zz-$1.conf
    grep -Eq '^[[:space:]]*include[[:space:]]+(/etc/nginx/)?sites-enabled/\*;' /etc/nginx/nginx.conf ||
        echo "there nginx-main /etc/nginx/nginx.conf"
    if [ -e "$beside" ]; then
        echo "there nginx-beside $beside"
        return 0
    fi
    for file in /etc/nginx/sites-enabled/* /etc/nginx/conf.d/*.conf; do
        [ "$file" = /etc/nginx/sites-enabled/default ] || [ ! -e "$file" ] || echo "there nginx $file"
    done
    wanted=$(dpkg-query -W -f '${Conffiles}\n' nginx-common 2>/dev/null | sed -n 's,^ /etc/nginx/nginx.conf \([0-9a-f]*\).*,\1,p')
    found=$(md5sum </etc/nginx/nginx.conf)
    [ "$wanted" = "${found%% *}" ] || echo "there nginx /etc/nginx/nginx.conf"
}

there_database() { # NAME DATABASE
    systemctl -q is-active 'postgresql@*' || return 0
    site=$2
    # Ours is not another's.
    [ ! -s "/etc/$1/database_password" ] || site=
    as_postgres 2>/dev/null <<SQL || true
SELECT 'there database ' || datname FROM pg_database
WHERE datname = '$site' OR (datname NOT IN ('postgres', '$2') AND NOT datistemplate AND datname !~ '\\s'
    AND datname !~ ('^' || left('$2', 46) || '_(restored|before_[0-9a-f]{8}(_[0-9]+)?)\$'));
SELECT 'there role ' || rolname FROM pg_roles WHERE rolname = '$site';
SQL
}

there_broker() { # NAME
    for beside in "/etc/rabbitmq/conf.d/$1.conf" /etc/rabbitmq/conf.d/portico.conf; do
        if [ -e "$beside" ]; then
            echo "there broker-beside $beside"
            return 0
        fi
    done
    [ ! -s "/etc/$1/broker_password" ] || return 0
    # Of another site: with vhosts and users of its own, and a configuration like ours.
    ! head -n 1 /etc/rabbitmq/rabbitmq.conf 2>/dev/null | grep -q 'Written by remote-setup' || return 0
    if systemctl -q is-active rabbitmq-server && found=$(
        broker_eval <<ERLANG
Users = [proplists:get_value(user, User) || User <- rabbit_auth_backend_internal:list_users()],
lists:foreach(fun(User) -> io:format("there broker-user ~s~n", [User]) end, Users -- [<<"guest">>]),
lists:foreach(fun(Name) -> io:format("there vhost ~s~n", [Name]) end, rabbit_vhost:list_names() -- [<<"/">>]),
lists:foreach(fun(Queue) -> io:format("there queue ~s~n", [element(4, amqqueue:get_name(Queue))]) end,
    rabbit_amqqueue:list(<<"/">>)).
ERLANG
    ); then
        echo "$found" | grep -E '^there [a-z-]+ [^ ]+$' || true
        return 0
    fi
    for node in /var/lib/rabbitmq/mnesia/*@*; do
        case $node in
            *-plugins-expand | *-feature_flags | *.pid) continue ;;
        esac
        # A host that had the role has kept its data, under the name that setup gives.
        if [ "${node##*/}" = rabbit@localhost ] && grep -qs 'Written by remote-setup' /etc/rabbitmq/rabbitmq-env.conf; then
            continue
        fi
        [ ! -d "$node" ] || echo "there node ${node##*/}"
    done
}

there_network() {
    # What ufw does now, and again at the next boot; its unit is not active before that.
    if grep -qs '^ENABLED=yes' /etc/ufw/ufw.conf; then echo "there firewall ufw"; fi
    if systemctl -q is-active firewalld; then echo "there firewall firewalld"; fi
    command -v ss >/dev/null || return 0
    ss -Hltnp | awk '{
        reach = ($4 ~ /^(127\.|\[::1\]|\[::ffff:127\.)/) ? "local" : "open"
        port = $4; sub(/.*:/, "", port)
        program = "unknown"; if (match($0, /\(\("[^"]*"/)) program = substr($0, RSTART + 3, RLENGTH - 4)
        gsub(/[^A-Za-z0-9_.:-]/, "_", program); print "listen", port, program, reach
    }' | sort -u
}
