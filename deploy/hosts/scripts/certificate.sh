# shellcheck shell=sh
# Installed as /usr/local/lib/NAME/certificate, for root; a timer runs it. It gets the certificate that nginx shows.
#
#   certificate           order or renew it at an ACME directory, if it is time; or get it from the web host that does
#   certificate force     renew it now, whether it is time or not; for a key that may be known to others
#
# certbot keeps accounts, keys and certificates of this site in a folder of its own: those of others in /etc/letsencrypt,
# their settings and their timer have no part in this.
set -eu
PATH=/usr/sbin:/usr/bin:/sbin:/bin
LC_ALL=C.UTF-8
export PATH LC_ALL
umask 077
cd /

name=${0#/usr/local/lib/}
name=${name%/certificate}
etc=/etc/$name record=/var/lib/$name-certificate nginx=/etc/nginx/$name
# Set by certificate.conf: on all hosts, on the one that orders, on the others.
ISSUED='' DIRECTORY='' EMAIL='' NAMES='' ISSUER='' FROM='' PEERS=''
# shellcheck source=/dev/null
. "$etc/certificate.conf"
#: Seconds to wait for another run, and for another host.
patience=600 answer=20

tell() { # FILE TEXT; for status, which reads it as another user
    (umask 022 && printf '%s\n' "$2" >"$record/.$1" && mv -f "$record/.$1" "$record/$1")
}

why='it ended early; `journalctl -u '$name'-certificate` on the host shows why'
work=''
ended() {
    code=$?
    [ "$code" -eq 0 ] || tell failed "$(date +%s) $why" || true
    [ -z "$work" ] || rm -rf "$work"
}
trap ended EXIT
trap 'exit 143' HUP INT TERM

fail() {
    why=$(printf '%s' "$1" | tr '\n\t' '  ' | cut -c 1-500)
    echo "$why" >&2
    exit 1
}

exec 9>"$record/lock"
flock -w "$patience" 9 || fail "another run of $name-certificate has not ended for $patience s"
work=$(mktemp -d)

# --- Ordering

# The first of the problems that the directory has with a name, with what to do. Debian 12's certbot hides what a
# directory says behind an error of its own (AttributeError); its second log has it.
why_not_ordered() { # LOG LOG
    host=$(sed -n 's/^ *Domain: //p' "$1" | head -n 1)
    kind=$(sed -n 's/^ *Type: *//p' "$1" | head -n 1)
    detail=$(sed -n 's/^ *Detail: //p' "$1" | head -n 1 | cut -c 1-250)
    # Some directories say of a name without an address that there was no connection.
    case $kind:$detail in connection:*' resolving '* | connection:*'no such host'*) kind=dns ;; esac
    case $kind in
        dns) echo "$host: its name does not lead here ($detail): fix its A and AAAA records" ;;
        connection) echo "$host: port 80 does not answer the directory ($detail): open it to everybody, on all web hosts" ;;
        unauthorized) echo "$host: something else answers there ($detail): its A and AAAA records must name the web hosts alone" ;;
        ?*) echo "$host: $kind: $detail" ;;
        *)
            said=$(sed -n 's/^acme.messages.Error: //p' "$2" 2>/dev/null | tail -n 1) || said=
            [ -n "$said" ] || said=$(sed -n 's/^.* with error: //p' "$1" | head -n 1)
            [ -n "$said" ] || said=$(grep -v -i -e '^Saving debug log' -e '^Ask for help' -e 'community' "$1" | grep . | tail -n 1) || said=
            said=$(printf '%s' "$said" | cut -c 1-250)
            case $said in
                *HTTPSConnectionPool* | *'Max retries'* | *Requesting*onnection* | *Requesting*ime*out* | *Requesting*ame*service* | *urn:ietf*)
                    case $said in *urn:ietf*) echo "$DIRECTORY says: $said" && return ;; esac
                    case $said in
                        *CERTIFICATE_VERIFY* | *'certificate verify'*) echo "$DIRECTORY shows a certificate that is not trusted here: set tls.acme.ca" && return ;;
                    esac
                    echo "$DIRECTORY cannot be reached: check the address, and whether this host may reach it"
                    ;;
                *) echo "certbot: ${said:-no reason given}" ;;
            esac
            ;;
    esac
}

again=''
order() { # [force]
    certbot=$record/certbot
    mkdir -p "$certbot"
    before=$(cat "$certbot/directory" 2>/dev/null) || before=
    force=${1-}
    # The certificate of a trial directory is not that of another.
    [ "$before" = "$DIRECTORY" ] || [ -z "$before" ] || force=force
    set --
    if [ -z "$force$again" ] && [ -e "$certbot/renewal/$name.conf" ] && [ "$(cat "$record/issued" 2>/dev/null)" = "$ISSUED" ]; then
        # Nothing is asked of anybody before it is time.
        set -- renew --cert-name "$name" --no-random-sleep-on-renew
    else
        if [ -n "$force" ]; then set -- --force-renewal; else set -- --keep-until-expiring; fi
        for each in $NAMES; do
            set -- "$@" --domain "$each"
        done
        if [ -n "$EMAIL" ]; then set -- "$@" --email "$EMAIL" --no-eff-email; else set -- "$@" --register-unsafely-without-email; fi
        set -- certonly --agree-tos --server "$DIRECTORY" --cert-name "$name" --renew-with-new-domains \
            --webroot --webroot-path "/srv/$name/challenges" "$@"
    fi
    # The authority of the directory counts for this program alone.
    [ ! -e "$etc/acme_ca.crt" ] || export REQUESTS_CA_BUNDLE="$etc/acme_ca.crt"
    : >"$certbot/cli.ini"
    code=0
    certbot --config "$certbot/cli.ini" --config-dir "$certbot" --work-dir "$certbot/work" --logs-dir "$certbot/logs" \
        --max-log-backups 10 --non-interactive "$@" </dev/null >"$work/log" 2>&1 || code=1
    cat "$work/log"
    if [ "$code" -ne 0 ]; then
        why=$(why_not_ordered "$work/log" "$certbot/logs/letsencrypt.log")
        case $again:$why in
            :*accountDoesNotExist*)
                # A directory that was set up again knows nobody.
                again=yes
                rm -rf "$certbot/accounts"
                order "$force"
                return
                ;;
        esac
        fail "$why"
    fi
    printf '%s\n' "$DIRECTORY" >"$certbot/directory"
    cat "$certbot/live/$name/fullchain.pem" "$certbot/live/$name/privkey.pem" >"$work/pem"
}

# --- Handing on: signed by this host's key, encrypted for that of each other one (RFC 5652); setup has told each of
# the others. So it may travel in clear, and lie where nginx reads it.

hand_over() {
    [ -s "$etc/recipients.pem" ] || return 0
    { printf '%s\n' "$ISSUED" && cat "$work/pem"; } >"$work/plain"
    awk -v to="$work/to" '/-BEGIN /{ n++ } { print >(to "-" n) }' "$etc/recipients.pem"
    openssl cms -sign -binary -nodetach -in "$work/plain" -signer "$etc/handover.crt" -inkey "$etc/handover.key" \
        -outform DER -out "$work/signed"
    openssl cms -encrypt -binary -aes256 -in "$work/signed" -outform DER -out "/srv/$name/handover/.pair" "$work"/to-*
    chmod 644 "/srv/$name/handover/.pair"
    mv -f "/srv/$name/handover/.pair" "/srv/$name/handover/pair"
}

begins() { date -d "$(openssl x509 -noout -startdate -in "$1" | cut -d = -f 2)" +%s; }

receive() {
    [ -s "$etc/sender.crt" ] || fail "does not know the key of $ISSUER yet: run remote-setup for both hosts"
    curl -sS -f -m "$answer" --retry 3 --retry-delay 5 --retry-connrefused --noproxy '*' -H "Host: $PEERS" \
        -o "$work/bundle" "$FROM" 2>"$work/log" ||
        fail "cannot get the certificate from $ISSUER: $(tail -n 1 "$work/log"): does that host have one, and does port 8082 answer?"
    openssl cms -decrypt -inform DER -in "$work/bundle" -recip "$etc/handover.crt" -inkey "$etc/handover.key" \
        -binary -out "$work/signed" 2>"$work/log" ||
        fail "the certificate of $ISSUER is not for this host: run remote-setup for both hosts"
    # Nobody but that host: none of the authorities that this system trusts.
    openssl cms -verify -inform DER -in "$work/signed" -CAfile "$etc/sender.crt" -no-CApath -no-CAstore -purpose any \
        -binary -out "$work/plain" 2>"$work/log" ||
        fail "the certificate that came from $ISSUER is not signed by it: run remote-setup for both hosts"
    ISSUED=$(head -n 1 "$work/plain")
    sed 1d "$work/plain" >"$work/pem"
    # What was recorded on its way is not played back.
    if [ -e "$record/issued" ] && [ "$(begins "$work/pem")" -lt "$(begins "$nginx/tls.pem")" ]; then
        fail "the certificate that came from $ISSUER is older than the one here; \`$0\` there hands the last one on"
    fi
}

# --- What nginx shows

check() {
    main=/etc/nginx/nginx.conf
    [ ! -e /etc/systemd/system/nginx.service.d/portico.conf ] || main=/etc/nginx/site/nginx.conf
    (umask 022 && nginx -t -q -c "$main") >"$work/log" 2>&1
}

install() {
    cmp -s "$work/pem" "$nginx/tls.pem" && return
    cp "$nginx/tls.pem" "$work/before"
    cp "$work/pem" "$nginx/.tls.pem"
    mv -f "$nginx/.tls.pem" "$nginx/tls.pem"
    if ! check; then
        cp "$work/before" "$nginx/.tls.pem"
        mv -f "$nginx/.tls.pem" "$nginx/tls.pem"
        fail "nginx rejects the new certificate, so it shows the one of before: $(grep -m 1 -i emerg "$work/log")"
    fi
    systemctl --quiet reload nginx.service || fail "nginx does not reload: \`journalctl -u nginx\` on the host shows why"
    echo "nginx shows the certificate that ends $(openssl x509 -noout -enddate -in "$nginx/tls.pem" | cut -d = -f 2)"
}

if [ -n "$FROM" ]; then
    receive
    install
else
    order "${1-}"
    install
    hand_over
fi
tell issued "$ISSUED"
rm -f "$record/failed"
