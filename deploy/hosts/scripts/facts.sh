# shellcheck shell=sh
# Reports the actual state of a host; changes nothing. Standard input: a query a line, and `end`. Output: a line for
# each, and `end`. Names and paths have no spaces; contents are in base64. %PG% in a name is the cluster of PostgreSQL.
#
#   name NAME APP DATABASE ACCOUNT VHOST USER ROLE…    the site's names (Layout.names), the deploy user, the host's
#                           roles: what is there already (there.sh)
#   package NAME            package NAME                      (only if installed)
#   user NAME               user NAME HOME SHELL GROUP…       (only if it exists; its own group first)
#   keys NAME               keys NAME                         (only if it has authorized keys that sshd reads: nobody
#                                                             else may write them)
#   open PATH OWNER         entry PATH KIND OWNER GROUP MODE SHA256 CONTENT     KIND: file folder link other absent
#   secret PATH OWNER       the same without the content; if the owner is not root, read as the owner
#   unit NAME               unit NAME ENABLED ACTIVE
#   address NAME            address NAME ADDRESS…
#   database | broker | redis | backup | certificate    state WHAT WORD…     what is missing; empty if nothing is
#                           password WHAT PASSWORD
#                           account WHAT USER PLACE           PLACE: the database, or the vhost
#                           certificate WHAT CONTENT
#                           issued SHA256, handover CONTENT   what it notes of its certificate, and is known by
#
# Always: system ID VERSION, python VERSION, port NUMBER, ipv6, pending VERB UNIT.
set -eu
PATH=/usr/sbin:/usr/bin:/sbin:/bin
LC_ALL=C
export PATH LC_ALL
umask 077
cd /

ssh_port=$1
name=

# Run a command as a user who may have put links in the way.
as() { # USER WORD…
    who=$1
    shift
    if [ "$who" = root ]; then "$@"; else runuser -u "$who" -- "$@" 2>/dev/null; fi
}

look() { # open|secret PATH OWNER
    path=$(real "$2")
    if [ -L "$path" ]; then
        echo "entry $2 link - - - - "
    elif [ -d "$path" ]; then
        echo "entry $2 folder $(stat -c '%U %G %a' "$path") - "
    elif [ -f "$path" ]; then
        # A file that its owner cannot read counts as different.
        digest=$(as "$3" sha256sum "$path") || digest=-
        content=
        [ "$1" = secret ] || content=$(as "$3" base64 -w 0 "$path") || content=
        echo "entry $2 file $(stat -c '%U %G %a' "$path") ${digest%% *} $content"
    elif [ -e "$path" ]; then
        echo "entry $2 other - - - - "
    else
        echo "entry $2 absent - - - - "
    fi
}

# Print what the site's hosts need to know about a server on this host.
access() { # WHAT
    [ ! -s "/etc/$name/$1_password" ] || echo "password $1 $(head -n 1 "/etc/$name/$1_password")"
    [ ! -s /etc/ssl/certs/ssl-cert-snakeoil.pem ] ||
        echo "certificate $1 $(base64 -w 0 </etc/ssl/certs/ssl-cert-snakeoil.pem)"
}

unit() {
    case $1 in
        # A template counts as active if any of its units is.
        *@.service)
            active=$(systemctl is-active "${1%.service}*.service" 2>/dev/null | grep -m 1 -E '^(re|)activ(e|ating)$') || true
            echo "unit $1 disabled ${active:-inactive}"
            return
            ;;
    esac
    enabled=$(systemctl is-enabled "$(real "$1")" 2>/dev/null) || true
    active=$(systemctl is-active "$(real "$1")" 2>/dev/null) || true
    case $1 in
        # Its rules may have been flushed or changed since it started. An earlier version has not noted them.
        portico.firewall.service)
            live=$(nft list table inet portico_hosts 2>/dev/null) || active=inactive
            [ ! -s /run/portico.firewall ] || [ "$live" = "$(cat /run/portico.firewall)" ] || active=inactive
            ;;
    esac
    echo "unit $1 ${enabled:-absent} ${active:-inactive}"
}

system() {
    # shellcheck source=/dev/null
    (. /etc/os-release && echo "system ${ID:-unknown} ${VERSION_ID:-0}") || echo "system unknown 0"
    [ -d /run/systemd/system ] || echo "no-systemd"
    if command -v python3 >/dev/null; then
        echo "python $(python3 -c 'import sys; print("%d.%d" % sys.version_info[:2])')"
    fi
    [ ! -s /proc/net/if_inet6 ] || echo "ipv6"
    {
        echo "$ssh_port"
        sshd -T 2>/dev/null | sed -n -e 's/^port //p' -e 's/^listenaddress .*:\([0-9]*\).*$/\1/p'
    } | sort -nu | sed 's/^/port /'
}

while read -r what first second roles <&3; do
    case $what in
        name)
            # shellcheck disable=SC2086 # several words
            set -- $second $roles
            # shellcheck disable=SC2034 # rabbitmq.sh and there.sh use them
            name=$first app=$1 database=$2 account=$3 vhost=$4 user=$5
            shift 5
            roles=$*
            broker_names "$name"
            system
            is_mine "$name" || there_names "$name" "$user"
            there_deployers "$name" "$user"
            # Also of a host that loses the role: others may use the server.
            case " $roles " in *" database "*) ;; *) [ ! -s "/etc/$name/database_password" ] || there_database "$name" "$database" ;; esac
            case " $roles " in *" broker "*) ;; *) [ ! -s "/etc/$name/broker_password" ] || there_broker "$name" ;; esac
            there_network
            clusters | sed 's/^/cluster /'
            for role in $roles; do
                case $role in
                    web | worker) there_nginx "$name" ;;
                    database) there_database "$name" "$database" ;;
                    broker) there_broker "$name" ;;
                esac
            done | sort -u
            if [ -s "/etc/$name/pending" ]; then sed 's/^/pending /' "/etc/$name/pending"; fi
            ;;
        package)
            if [ "$(dpkg-query -W -f '${db:Status-Status}' "$first" 2>/dev/null)" = installed ]; then
                echo "package $first"
            fi
            ;;
        user)
            if entry=$(getent passwd "$first"); then
                home=${entry#*:*:*:*:*:}
                echo "user $first ${home%%:*} ${home#*:} $(id -Gn "$first")"
            fi
            ;;
        keys)
            if home=$(getent passwd "$first" | cut -d : -f 6) && [ -n "$home" ] && [ -s "$home/.ssh/authorized_keys" ] &&
                [ -z "$(find -L "$home/.ssh" "$home/.ssh/authorized_keys" -maxdepth 0 -perm /022)" ]; then
                echo "keys $first"
            fi
            ;;
        open | secret) look "$what" "$first" "$second" ;;
        unit) unit "$first" ;;
        address)
            found=$(getent ahosts "$first" | while read -r address _; do echo "$address"; done | sort -u | tr '\n' ' ') || true
            echo "address $first $found"
            ;;
        database)
            echo "state database $(database_missing "$name" "$database")"
            echo "account database $database $database"
            access database
            ;;
        broker)
            echo "state broker $(broker_missing "$name")"
            echo "account broker $account $vhost"
            access broker
            ;;
        redis)
            echo "state redis $(redis_missing "$name")"
            access redis
            ;;
        certificate)
            echo "state certificate $(certificate_missing "$name")"
            certificate_known "$name"
            ;;
        backup) echo "state backup $(repository_missing "$name")" ;;
        end)
            echo "end"
            exit 0
            ;;
    esac
done 3<&0 </dev/null
echo "the queries are incomplete; run the command again" >&2
exit 1
