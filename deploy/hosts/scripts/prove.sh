# shellcheck shell=sh
# Tries, as root, what this host needs of itself and of others: a visit through nginx, the database, the broker and
# Redis as the site reaches them. Standard input, each a line: the site's name, a host name of the site, `http` or `https`,
# the deploy user.
# Standard output, a line each:
#
#   visit 127.0.0.1 ok|WHY               through nginx, as a visitor
#   database|broker|redis ADDRESS ok|WHY of another host, or of this one
#   closed PROGRAM PORT                  a firewall that is not ours lets no visitor in
#   sshd KEY VALUE…                      what sshd does with the deploy user
#   groups NAME…                         of the deploy user
#   keys FILE yes|no|absent              whether it has a key of the administrator's
#   loose FOLDER                         others may write there, so sshd reads no keys in it
set -eu
IFS= read -r name
IFS= read -r domain
IFS= read -r scheme
IFS= read -r user
admin=$2
roles=" $(cat "/etc/$name/roles" 2>/dev/null || true) "
has() { case $roles in *" $1 "*) ;; *) return 1 ;; esac; }
#: Seconds for each answer.
patience=8

if has web; then
    said=$(curl -sS -k -o /dev/null -m "$patience" --noproxy '*' --connect-to "$domain::127.0.0.1:" "$scheme://$domain/" 2>&1) &&
        said=ok || said=$(printf '%s\n' "$said" | tail -n 1)
    echo "visit 127.0.0.1 $said"
fi

# Set `account`, `password`, `address` and `port` to the parts of a URL.
parts() { # URL
    rest=${1#*://}
    account=${rest%%:*}
    rest=${rest#*:}
    password=${rest%%@*}
    rest=${rest#*@}
    rest=${rest%%/*}
    port=${rest##*:}
    address=${rest%:*}
    address=${address#[}
    address=${address%]}
}
of() { sed -n "s/^$1=//p" "/etc/$name/services.env" 2>/dev/null || true; }

url=$(of DATABASE_URL)
if [ -n "$url" ] && command -v psql >/dev/null; then
    parts "$url"
    database=${url%%\?*}
    # In the environment of root's own process, not in an argument.
    said=$(HOME=/nonexistent PGPASSWORD=$password PGSSLROOTCERT=/etc/$name/database.crt PGSSLMODE=verify-ca \
        PGCONNECT_TIMEOUT=$patience psql -X -w -A -t -h "$address" -p "$port" -U "$account" -d "${database##*/}" \
        -c 'SELECT 1' 2>&1) && said=ok || said=$(printf '%s\n' "$said" | tail -n 1)
    echo "database $address $said"
fi
url=$(of REDIS_URL)
if [ -n "$url" ]; then
    parts "$url"
    # The password goes over a pipe; QUIT makes the server hang up.
    said=$(printf 'AUTH %s\r\nPING\r\nQUIT\r\n' "$password" | timeout "$patience" openssl s_client -quiet -verify_quiet \
        -verify_return_error -CAfile "/etc/$name/redis.crt" -connect "$address:$port" 2>&1 | tr -d '\000\r') || true
    case $said in
    *+PONG*) said=ok ;;
    '') said="no answer within $patience s" ;;
    *) said=$(printf '%s\n' "$said" | tail -n 1) ;;
    esac
    echo "redis $address $said"
fi
url=$(of CELERY_BROKER_URL)
case $url in redis*) url= ;; esac # which has been asked
if [ -n "$url" ]; then
    parts "$url"
    # Asked for a version of AMQP that there is not, a broker names its own and hangs up.
    said=$(printf 'AMQP\000\000\000\000' | timeout "$patience" openssl s_client -quiet -verify_quiet \
        -verify_return_error -CAfile "/etc/$name/broker.crt" -connect "$address:$port" 2>&1 | tr -d '\000' | tail -n 1) || true
    case $said in
    *AMQP*) said=ok ;;
    '') said="no answer within $patience s" ;;
    esac
    echo "broker $address $said"
fi

closed_by_ufw() { # PORT
    status=$(ufw status verbose 2>/dev/null) || return 1
    case $status in *'Status: active'*) ;; *) return 1 ;; esac
    case $status in *'Default: allow (incoming)'*) return 1 ;; esac
    ! printf '%s\n' "$status" | grep -E 'ALLOW|LIMIT' | grep -Eq "^(.*,)?$1(,[0-9,]*)?(/tcp)?[[:space:]]|^(Anywhere|WWW|Nginx|Apache)"
}
closed_by_firewalld() { # PORT
    firewall-cmd --state >/dev/null 2>&1 || return 1
    service=http
    [ "$1" = 80 ] || service=https
    ! firewall-cmd -q --query-service="$service" && ! firewall-cmd -q --query-port="$1/tcp"
}
if has web; then
    port=80
    [ "$scheme" = http ] || port=443
    if closed_by_ufw "$port"; then echo "closed ufw $port"; fi
    if closed_by_firewalld "$port"; then echo "closed firewalld $port"; fi
fi

# --- What may keep the deploy user out.

set -f
settings=$("$(command -v sshd || echo /usr/sbin/sshd)" -T -C "user=$user,host=localhost,addr=127.0.0.1" 2>/dev/null) || settings=
printf '%s\n' "$settings" | grep -E '^(allow|deny)(users|groups) |^(pubkeyauthentication|authenticationmethods|authorizedkeysfile|maxsessions) ' |
    sed 's/^/sshd /' || true
echo "groups $(id -Gn "$user" 2>/dev/null || true)"
home=$(getent passwd "$user" | cut -d : -f 6)
for folder in "$home" "$home/.ssh"; do
    [ -z "$(find "$folder" -maxdepth 0 -perm /022 2>/dev/null)" ] || echo "loose $folder"
done
for file in $(printf '%s\n' "$settings" | sed -n 's/^authorizedkeysfile //p'); do
    file=$(printf '%s' "$file" | sed "s,%h,$home,g; s,%u,$user,g")
    case $file in /*) ;; *) file=$home/$file ;; esac
    found=absent
    if [ -e "$file" ]; then
        # The keys themselves, without options and remarks.
        found=no
        keys=$(grep -v '^#' "$admin/.ssh/authorized_keys" 2>/dev/null | grep -Eo 'AAAA[A-Za-z0-9+/=]+') || keys=
        for key in $keys; do
            ! grep -qF "$key" "$file" || found=yes
        done
    fi
    echo "keys $file $found"
done
