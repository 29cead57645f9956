# shellcheck shell=sh
# shellcheck disable=SC2317,SC2329,SC2154 # facts.sh and apply.sh, which follow, call these; apply.sh sets `work`
# A certificate of an ACME directory: functions for facts.sh and apply.sh. certificate.sh, installed on the host, gets
# it. Until then nginx shows another: that of before, or one that nobody trusts.

# Print what is missing: placeholder, keys.
certificate_missing() { # NAME
    [ -s "/etc/nginx/$1/tls.pem" ] || printf 'placeholder '
    [ -s "/etc/$1/handover.key" ] && [ -s "/etc/$1/handover.crt" ] || printf keys
}

# Print what the host has noted of the certificate that nginx shows, if the last try was none that failed; and by what
# the host is known to others.
certificate_known() { # NAME
    [ ! -s "/etc/nginx/$1/tls.pem" ] || [ ! -s "/var/lib/$1-certificate/issued" ] || [ -e "/var/lib/$1-certificate/failed" ] ||
        echo "issued $(sha256sum <"/var/lib/$1-certificate/issued" | cut -d ' ' -f 1)"
    [ ! -s "/etc/$1/handover.crt" ] || echo "handover $(base64 -w 0 <"/etc/$1/handover.crt")"
}

certificate_make() { # NAME
    made=$work/certificate
    mkdir -p "$made"
    if [ ! -s "/etc/nginx/$1/tls.pem" ]; then
        if [ -s "/etc/nginx/$1/tls.crt" ] && [ -s "/etc/nginx/$1/tls.key" ]; then
            cat "/etc/nginx/$1/tls.crt" "/etc/nginx/$1/tls.key" >"$made/tls.pem"
        else
            rm -f "/var/lib/$1-certificate/issued"
            certificate_pair "$made" "no certificate yet" && cat "$made/crt" "$made/key" >"$made/tls.pem"
        fi && mv "$made/tls.pem" "/etc/nginx/$1/tls.pem" || return 1
    fi
    [ ! -s "/etc/$1/handover.crt" ] || [ ! -s "/etc/$1/handover.key" ] || return 0
    # The key goes first: the certificate says that both are there.
    certificate_pair "$made" "$1" && mv "$made/key" "/etc/$1/handover.key" &&
        chmod 644 "$made/crt" && mv "$made/crt" "/etc/$1/handover.crt"
}

certificate_pair() { # FOLDER WORDS
    openssl req -x509 -newkey rsa:3072 -nodes -days 36500 -subj "/CN=$2" -keyout "$1/key" -out "$1/crt" >"$work/log" 2>&1
}
