# shellcheck shell=sh
# shellcheck disable=SC2317,SC2329 # facts.sh and apply.sh, which follow, call these
# Redis on its host: functions for facts.sh and apply.sh. The site has a server of its own, NAME-redis, whose password
# is a line of its configuration; only root reads both files.

# Print what is missing: password.
redis_missing() { # NAME
    password=$(head -n 1 "/etc/$1/redis_password" 2>/dev/null || true)
    [ -n "$password" ] && grep -qsx "requirepass $password" "/etc/$1/redis.password.conf" || echo password
}

redis_make() { # NAME
    file=/etc/$1/redis_password
    password=$(head -n 1 "$file" 2>/dev/null || true)
    [ -n "$password" ] || password=$(od -A n -N 24 -t x1 /dev/urandom | tr -d ' \n')
    printf 'requirepass %s\n' "$password" >"/etc/$1/redis.password.conf.new"
    mv "/etc/$1/redis.password.conf.new" "/etc/$1/redis.password.conf"
    printf '%s\n' "$password" >"$file.new"
    mv "$file.new" "$file"
    # One that runs with another password starts again; else its unit starts later.
    systemctl -q try-restart "$1-redis.service" 2>/dev/null || true
}
