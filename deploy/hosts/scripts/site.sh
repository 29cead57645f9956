# shellcheck shell=sh
# shellcheck disable=SC2154 # the script after this one sets name, srv, state, release, entry, probes, and its own `fail`
# What activate.sh and restart.sh have in common; it is sent before either.

#: Seconds for all paths to answer, with retries, before the release counts as unhealthy.
patience=20

helper() { sudo -n "/usr/local/sbin/$name-helper" "$@" </dev/null; }

record() { # OUTCOME
    outcome=$(printf '%s' "$1" | tr -d '\000-\037' | sed 's/[\\"]/\\&/g')
    printf '{"at": "%s", %s, "outcome": "%s"}\n' "$(date -u +%Y-%m-%dT%H:%M:%SZ)" "$entry" "$outcome" >>"$state/ledger.jsonl"
    rm -f "$state/begun"
}

# Wait until no connection is queued at a web unit's socket: a unit that stops resets those.
drain() { # RELEASE
    for _ in 1 2 3 4 5 6 7 8 9 10 11 12 13 14 15 16 17 18 19 20; do
        waiting=$(ss -xlHn | awk -v socket="/run/$name/web-$1/sock" '$5 == socket { sum += $3 } END { print sum + 0 }')
        [ "$waiting" -gt 0 ] || return 0
        sleep 0.2
    done
}

# Lead nginx to another socket of the release, in one rename.
way_to() { # RELEASE, or twin-RELEASE
    ln -sfn "/run/$name/web-$1/sock" "$srv/releases/$release/.web.sock" &&
        mv -T "$srv/releases/$release/.web.sock" "$srv/releases/$release/web.sock"
}

probe() { # WHERE, URL WITHOUT PATH, OPTIONS OF CURL…
    where=$1 url=$2
    shift 2
    end=$(($(date +%s) + patience))
    for path in $probes; do
        until said=$(curl -s -m 5 --noproxy '*' -w '\n%{http_code}' "$@" "$url$path" | tr -d '\000') &&
            code=$(printf '%s\n' "$said" | tail -n 1) && [ "$code" -ge 100 ] && [ "$code" -lt 400 ]; do
            if [ "$(date +%s)" -ge "$end" ]; then
                helper journal web "$release" 20 | sed 's/^/| /'
                case $said in '{'*) printf '%s\n' "$said" | sed '$d' | cut -c 1-500 | sed 's/^/| /' ;; esac
                [ "$code" != 000 ] || fail "$where: $path: no answer within $patience s"
                fail "$where: $path answers $code"
            fi
            sleep 0.5
        done
    done
}
