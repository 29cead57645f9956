# shellcheck shell=sh
# shellcheck disable=SC2154 # frame.sh sets `name`: what the host calls the site
# What a visitor and the servers of a host get, for remote-status: one fact a line, after those of look.sh.
# Standard input, each a line: a host name of the site, the scheme of clients' requests, `tls` or
# nothing, the paths that must answer, and look.sh (base64).
#
#   answer PATH CODE WORDS…         of the site, through nginx; 000 for none
#   server NAME STATE               nginx, postgresql, rabbitmq, redis, firewall; `ok`, or what is wrong
#   disk FOLDER FREE TOTAL          of each file system in use, in kilobytes
#   certificate SECONDS SECONDS     when it ends, since the epoch, and when it began
#   renewal never|SECONDS WHY       of `tls: acme`: there has been none yet; when the last try failed, and why
#   lock WHO                        who changes this host now
#   restarts UNIT NUMBER            of the units that run
#   backup WORD…                    due, with SECONDS if the last one failed; last SECONDS ID; proved ok|failed SECONDS ID
set -eu
IFS= read -r domain
IFS= read -r scheme
IFS= read -r tls
IFS= read -r probes
IFS= read -r look
name="$name" sh -c "$(printf '%s' "$look" | base64 -d)"

#: Seconds for each answer.
patience=8
roles=" $(cat "/etc/$name/roles" 2>/dev/null || true) "
has() { case $roles in *" $1 "*) ;; *) return 1 ;; esac; }
active() { # UNIT
    state=$(systemctl is-active "$1" 2>/dev/null) || true
    [ "$state" != active ] || state=ok
    echo "${state:-unknown}"
}

if has web || has worker; then echo "server nginx $(active nginx.service)"; fi
if has web; then
    for path in $probes; do
        said=$(curl -s -k -m "$patience" --noproxy '*' -w '\n%{http_code}' --resolve "$domain:80:127.0.0.1" \
            --resolve "$domain:443:127.0.0.1" "$scheme://$domain$path" | tr -d '\000') || true
        code=$(printf '%s\n' "$said" | tail -n 1)
        words=
        case $said in '{'*) words=$(printf '%s\n' "$said" | sed '$d' | tr '\n' ' ' | cut -c 1-300) ;; esac
        echo "answer $path ${code:-000} $words"
    done
    if [ "$tls" = tls ]; then
        dates=$(timeout "$patience" openssl s_client -connect 127.0.0.1:443 -servername "$domain" </dev/null 2>/dev/null |
            openssl x509 -noout -dates 2>/dev/null) || dates=
        until=${dates#*notAfter=} since=${dates#*notBefore=}
        since=${since%%notAfter=*}
        [ -z "$dates" ] || echo "certificate $(date -d "$until" +%s) $(date -d "$since" +%s)"
    fi
    if [ -e "/etc/$name/certificate.conf" ]; then
        renewal=/var/lib/$name-certificate
        [ -e "$renewal/issued" ] || echo "renewal never"
        [ ! -s "$renewal/failed" ] || echo "renewal $(head -n 1 "$renewal/failed" | cut -c 1-500)"
    fi
fi
if has database; then
    # Its own question; Debian's wrapper asks the cluster on the default port.
    said=$(timeout "$patience" pg_isready -q -p 5432 2>&1) && said=ok || said=${said:-"no answer"}
    echo "server postgresql $said"
fi
if has broker; then
    # Asked for a version of AMQP that there is not, a running broker names its own and hangs up.
    said=$(printf 'AMQP\000\000\000\000' | timeout "$patience" openssl s_client -quiet -connect 127.0.0.1:5671 2>/dev/null |
        head -c 4 | tr -d '\000') || true
    [ "$said" = AMQP ] && said=ok || said="no answer"
    echo "server rabbitmq $said"
fi
if has redis; then
    # Without its password a running Redis refuses the question, and so answers.
    said=$(printf 'PING\r\nQUIT\r\n' | timeout "$patience" openssl s_client -quiet -connect 127.0.0.1:6380 2>/dev/null |
        head -c 7 | tr -d '\000') || true
    [ "$said" = -NOAUTH ] && said=ok || said="no answer"
    echo "server redis $said"
fi
[ ! -e "/etc/portico.d/firewall/open-$name.nft" ] || echo "server firewall $(active portico.firewall.service)"

seen=' '
for folder in / /var "/srv/$name" /var/log /var/lib/postgresql /var/lib/rabbitmq /var/backups; do
    [ -e "$folder" ] || continue
    # shellcheck disable=SC2046 # six words
    set -- $(df -Pk "$folder" 2>/dev/null | awk 'NR == 2 { print $6, $4, $2 }')
    case ${1:+$seen} in
        '' | *" $1 "*) ;;
        *) seen="$seen$1 " && echo "disk $*" ;;
    esac
done

if [ -e "/etc/$name/backup.conf" ]; then
    record=/var/lib/$name-backup
    echo "backup due $(cat "$record/failed" 2>/dev/null || true)"
    if [ -s "$record/last" ] && read -r id at _ <"$record/last"; then echo "backup last $at $id"; fi
    if [ -s "$record/proved" ] && read -r how id at <"$record/proved"; then echo "backup proved $how $at $id"; fi
fi

lock=/srv/$name/state/lock
if [ -e "$lock" ] && ! flock -n "$lock" true 2>/dev/null; then echo "lock $(head -n 1 "$lock")"; fi
systemctl list-units --plain --full --no-legend --no-pager --type service "$name-*@*.service" 2>/dev/null |
    while read -r unit _; do
        # The name of another site may begin with ours.
        case ${unit#"$name"-} in web@* | worker@* | beat@*) ;; *) continue ;; esac
        echo "restarts $unit $(systemctl show -P NRestarts "$unit")"
    done
