# shellcheck shell=sh
# Applies a plan to a host. Standard input: a line for each step, and `end`; nothing is done before all lines have
# arrived. Names and paths have no spaces; contents are in base64. %PG% is the cluster of PostgreSQL.
#
#   name NAME APP DATABASE ACCOUNT VHOST    the site's names (Layout.names)
#   install PACKAGE…
#   user NAME login|system                  with a group of its own
#   keys NAME                               copy the administrator's authorized keys
#   folder PATH OWNER GROUP MODE
#   group                                   if a later check fails, restore the files from here on
#   file PATH OWNER GROUP MODE CONTENT      if the owner is not root: written as the owner, with the owner's group
#   keep PATH OWNER                         copy a file that is not ours to PATH.before-portico, once
#   check sudoers|nginx|nginx-beside|firewall
#   move PATH NEW                           a file gets another name
#   absent PATH
#   free LOCK                               fail if a deploy holds the lock
#   quit PATTERN                            stop units, and wait for that
#   nodatabase all|role                     remove the database and its role; role: it may only not log in
#   nobroker all|user                       remove the vhost and the user; user: only that
#   erase FOLDER | seal FOLDER | empty FOLDER    remove; for root only, or remove if empty; remove if empty
#   nousers NAME…                           remove users that setup has made, unless another site deploys as them
#   units                                   systemd reads its files again
#   enable UNIT | disable UNIT              disable also stops it; for a template all its units, without waiting
#   start UNIT | restart UNIT | reload UNIT
#   database | broker | redis | backup      role, database and password; user and password; password; repository
#
# Output: the steps that take long. A failure is one line on standard error.
set -eu
PATH=/usr/sbin:/usr/bin:/sbin:/bin
LC_ALL=C.UTF-8
DEBIAN_FRONTEND=noninteractive
NEEDRESTART_SUSPEND=1
export PATH LC_ALL DEBIAN_FRONTEND NEEDRESTART_SUSPEND
umask 077
cd /

admin_home=$2
name=setup
# Servers that would listen on all addresses until we have configured them.
eager="nginx.service rabbitmq-server.service"

fail() {
    echo "$1" >&2
    exit 1
}

exec 8>/run/setup.lock
flock -n 8 || fail "somebody else is setting this host up; retry when that has finished"
# Left by a setup that was killed.
rm -rf /run/setup.??????
work=$(mktemp -d /run/setup.XXXXXX)
clean_up() {
    rm -rf "$work"
    # shellcheck disable=SC2086 # several words
    systemctl --quiet --runtime unmask $eager </dev/null 2>/dev/null || true
}
trap clean_up EXIT
trap 'exit 143' HUP INT TERM
# A setup that was killed during an installation has left them masked.
# shellcheck disable=SC2086 # several words
systemctl --quiet --runtime unmask $eager </dev/null 2>/dev/null || true
cat >"$work/plan"
[ "$(tail -n 1 "$work/plan")" = end ] || fail "the plan is incomplete; run the command again"
mkdir "$work/old"

# Why apt does not install: the package that dpkg fails for and what it says of it, else apt's own last error.
why_not_installed() {
    package=$(sed -n 's/^dpkg: error processing \(package\|archive\) \([^ ]*\).*/\2/p' "$work/log" | head -n 1)
    [ -n "$package" ] || {
        sed -n 's/^E: //p' "$work/log" | tail -n 1
        return
    }
    said=$(sed -n '/^dpkg: error processing /{n;s/^ *//;p;q;}' "$work/log")
    echo "$package: $said: \`dpkg --configure -a\` on the host shows more"
}

install() {
    echo "installing $*"
    # First finish an installation that was interrupted earlier.
    if [ -n "$(dpkg --audit)" ]; then dpkg --force-confdef --force-confold --configure -a >"$work/log" 2>&1 || true; fi
    tries=60
    until apt-get -q update >"$work/log" 2>&1; do
        tries=$((tries - 1))
        if [ "$tries" -eq 0 ] || ! grep -q 'Could not get lock' "$work/log"; then
            fail "apt-get update: $(sed -n 's/^[EW]: //p' "$work/log" | tail -n 1)"
        fi
        sleep 5
    done
    # shellcheck disable=SC2086 # several words
    systemctl --quiet --runtime mask $eager 2>/dev/null || true
    apt-get -q -y -o DPkg::Lock::Timeout=300 -o Dpkg::Options::=--force-confdef -o Dpkg::Options::=--force-confold \
        --no-install-recommends install -- "$@" >"$work/log" 2>&1 ||
        fail "apt-get install: $(why_not_installed)"
    # shellcheck disable=SC2086 # several words
    systemctl --quiet --runtime unmask $eager 2>/dev/null || true
}

user() {
    if ! getent passwd "$1" >/dev/null; then
        # A removal of the site takes no user that was there before.
        echo "$1" >>"/etc/$name/users"
        if [ "$2" = system ]; then
            useradd --system --user-group --no-create-home --home-dir /nonexistent --shell /usr/sbin/nologin "$1"
        else
            # `*` matches no password. Unlike `!` it does not lock the account: sshd refuses locked accounts.
            useradd --user-group --create-home --home-dir "/home/$1" --shell /bin/bash --password '*' "$1"
        fi
    elif [ "$2" = login ]; then
        usermod --shell /bin/bash "$1"
    else
        usermod --shell /usr/sbin/nologin "$1"
    fi
}

keys() {
    [ -s "$admin_home/.ssh/authorized_keys" ] ||
        fail "$admin_home/.ssh/authorized_keys has no keys to copy for $1: put some into /home/$1/.ssh/authorized_keys"
    # As that user, who could have put a link there.
    # shellcheck disable=SC2016 # that user's shell expands it
    runuser -u "$1" -- sh -c 'umask 077 && mkdir -p ~/.ssh && cat >~/.ssh/authorized_keys' \
        <"$admin_home/.ssh/authorized_keys"
}

folder() {
    [ ! -L "$1" ] || fail "$1 is a link; remove it"
    [ ! -e "$1" ] || [ -d "$1" ] || fail "$1 is not a folder; remove it"
    mkdir -p "$1"
    chown "$2:$3" "$1"
    chmod "$4" "$1"
}

# --- Removal of a site

quit() { # PATTERN
    systemctl --quiet disable "$1" 2>/dev/null || true
    systemctl --quiet stop "$1" 2>/dev/null || ! systemctl -q is-active "$1" 2>/dev/null || fail "$1 does not stop: systemctl status shows why"
    systemctl --quiet reset-failed "$1" 2>/dev/null || true
}

erase() {
    [ ! -L "$1" ] || fail "$1 is a link; remove it"
    # Not what is mounted there, such as a share with uploads.
    rm -rf --one-file-system "${1:?}" 2>/dev/null || echo "$1 has something mounted, which stays"
}

seal() {
    [ -d "$1" ] && [ ! -L "$1" ] && ! mountpoint -q "$1" || return 0
    rmdir "$1" 2>/dev/null || { chown root:root "$1" && chmod 700 "$1" && echo "$1 stays"; }
}

nousers() {
    for user in "$@"; do
        grep -qsx "$user" "/etc/$name/users" || continue
        other=$(grep -ls "^$user ALL=(root:root) NOPASSWD: /usr/local/sbin/.*-helper$" /etc/sudoers.d/* | head -n 1)
        if [ -n "$other" ]; then
            echo "$user" >>"/etc/${other##*/}/users"
        elif getent passwd "$user" >/dev/null; then
            # The home of the site's user does not exist.
            userdel --force --remove "$user" >"$work/log" 2>&1 || [ $? -eq 12 ] || fail "userdel $user: $(tail -n 1 "$work/log")"
        fi
    done
}

saved=0
# Save a file for `restore`.
save() {
    saved=$((saved + 1))
    if [ -e "$1" ] || [ -L "$1" ]; then cp -a "$1" "$work/old/$saved"; fi
    echo "$saved $1" >>"$work/group"
}

restore() {
    while read -r number path; do
        if [ -e "$work/old/$number" ] || [ -L "$work/old/$number" ]; then
            mv -f -T "$work/old/$number" "$path"
        else
            rm -f "$path"
        fi
    done <"$work/group"
}

# Write a file as its owner. The owner can write to the folder, and could put a link there that points to a file of
# root's.
file_of() { # OWNER PATH MODE
    # shellcheck disable=SC2016 # that user's shell expands it
    runuser -u "$1" -- sh -c \
        'umask 022 && mkdir -p "${2%/*}" && umask 077 && rm -f "$1" && cat >"$1" && chmod "$3" "$1" && mv -f -T "$1" "$2"' \
        sh "${2%/*}/.${2##*/}.new" "$2" "$3" >"$work/log" 2>&1
}

file() {
    case $1 in
        *%PG%*) cluster_make || fail "cannot make a cluster of PostgreSQL: pg_createcluster says why" ;;
    esac
    path=$(real "$1")
    case $path in
        /etc/postgresql/none/*) fail "no PostgreSQL cluster listens on port 5432: pg_lsclusters lists the clusters" ;;
    esac
    [ ! -d "$path" ] || [ -L "$path" ] || fail "$path is a folder; remove it"
    parent=${path%/*}
    if [ "$2" != root ]; then
        printf '%s' "$5" | base64 -d | file_of "$2" "$path" "$4" || fail "$2 cannot write $path: $(tail -n 1 "$work/log")"
        return
    fi
    # The folder belongs to a package that may not have created it yet.
    [ -d "$parent" ] || (umask 022 && mkdir -p "$parent")
    fresh=$parent/.${path##*/}.new
    save "$path"
    printf '%s' "$5" | base64 -d >"$fresh"
    chown "$2:$3" "$fresh"
    chmod "$4" "$fresh"
    case $path in
        /etc/sudoers.d/*) visudo -cqf "$fresh" >"$work/log" 2>&1 || { rm -f "$fresh" && fail "sudo rejects $path"; } ;;
    esac
    mv -f -T "$fresh" "$path"
}

check() {
    case $1 in
        # nginx creates its logs here; the umask gives them their rights.
        nginx) (umask 022 && nginx -t -q -c /etc/nginx/site/nginx.conf) >"$work/log" 2>&1 && return ;;
        nginx-beside) (umask 022 && nginx -t -q) >"$work/log" 2>&1 && return ;;
        firewall) nft -c -f /etc/portico.d/firewall/main.nft >"$work/log" 2>&1 && return ;;
    esac
    restore
    fail "$1 rejects its configuration, so the previous one is restored: $(grep -m 1 -i -E 'emerg|error' "$work/log")"
}

# Why a unit does not start: in its program's words, not in systemd's, with who holds a port that is in use.
why() { # UNIT
    own=$(journalctl -q --no-pager -n 40 -o cat "_SYSTEMD_UNIT=$1" 2>/dev/null) || own=
    said=$(printf '%s\n' "$own" | grep -i -E 'emerg|fatal|error|fail|denied|in use' | tail -n 1)
    [ -n "$said" ] || said=$(printf '%s\n' "$own" | tail -n 1)
    [ -n "$said" ] || said=$(journalctl -q --no-pager -n 1 -o cat -u "$1" 2>/dev/null || tail -n 1 "$work/log")
    case $said in
        *ddress*in*use*)
            port=$(printf '%s\n' "$said" | sed -n 's/.*[]0-9*]:\([0-9][0-9]*\).*/\1/p')
            who=$(ss -Hltnp "sport = :${port:-0}" | sed -n 's/.*users:(("\([^"]*\)".*/\1/p' | head -n 1)
            [ -z "$who" ] || said="$who holds port $port ($said)"
            ;;
    esac
    printf '%s\n' "$said" | cut -c 1-300
}

require() {
    "$@" >"$work/log" 2>&1 && return
    unit=
    for unit in "$@"; do :; done
    fail "systemctl $2 $unit fails: $(why "$unit")"
}

carry_out() {
    # shellcheck disable=SC2094 # it is only read
    while read -r verb a b c d e <&7; do
        case $verb in
            name)
                # shellcheck disable=SC2034 # rabbitmq.sh uses the last two
                name=$a database=$c account=$d vhost=$e
                broker_names "$name"
                # Processes may use what `remote-rotate` has made beside, and setup would take it from them.
                for each in database broker redis; do
                    [ ! -e "/etc/$name/${each}_password.next" ] || grep -q '^quit ' "$work/plan" ||
                        fail "a rotation has not ended: \`remote-rotate --secret $each\` ends it; then run this again"
                done
                (umask 022 && mkdir -p "/etc/$name")
                # Until the end the host matches no known state.
                rm -f "/etc/$name/setup"
                # Restarts and reloads that an interruption would lose, as the files do not show them later.
                sed -n -e '/^restart /p' -e '/^reload /p' "$work/plan" >"/etc/$name/pending"
                ;;
            install)
                # shellcheck disable=SC2086 # several words
                install $a $b $c $d $e
                ;;
            user) user "$a" "$b" ;;
            keys) keys "$a" ;;
            folder) folder "$a" "$b" "$c" "$d" ;;
            group) : >"$work/group" ;;
            file) file "$a" "$b" "$c" "$d" "$e" ;;
            check) check "$a" ;;
            keep)
                path=$(real "$a")
                # As its owner, whose folder it is; never over an earlier copy.
                [ ! -f "$path" ] || runuser -u "$b" -- cp -a -n "$path" "$path.before-portico" ||
                    fail "cannot copy $path to $path.before-portico"
                ;;
            move)
                from=$(real "$a")
                [ ! -f "$from" ] || mv -n -T "$from" "$(real "$b")"
                ;;
            absent)
                path=$(real "$a")
                save "$path"
                # As the owner of its folder, who could have put a link in the way.
                who=$(stat -c %U "${path%/*}" 2>/dev/null || echo root)
                if [ "$who" = root ]; then rm -f "$path"; else runuser -u "$who" -- rm -f "$path" || true; fi
                ;;
            free)
                if [ -e "$a" ] && ! flock -n "$a" true; then
                    fail "$(head -n 1 "$a") holds the lock; wait for that, or end it with \`remote-unlock\`"
                fi
                ;;
            quit) quit "$a" ;;
            erase) erase "$a" ;;
            seal) seal "$a" ;;
            empty) rmdir "$a" 2>/dev/null || true ;;
            nousers) nousers "$a" "$b" ;;
            nodatabase) database_remove "$database" "$a" || fail "cannot remove the database: journalctl -u postgresql may show why" ;;
            nobroker) broker_remove "$a" || fail "cannot remove the broker's user: /var/log/rabbitmq may show why" ;;
            units) systemctl daemon-reload ;;
            disable)
                case $a in
                    *@.service) systemctl --quiet --no-block stop "${a%.service}*.service" || true ;;
                    *)
                        require systemctl disable "$(real "$a")"
                        systemctl --quiet stop "$(real "$a")" || true
                        ;;
                esac
                ;;
            enable | start | restart | reload)
                require systemctl "$verb" "$(real "$a")"
                ;;
            database)
                echo "creating the database"
                database_make "$name" "$database" || fail "cannot create the database's role: journalctl -u postgresql may show why"
                ;;
            broker)
                echo "creating the broker's user"
                broker_make "$name" || fail "cannot create the broker's user: /var/log/rabbitmq may show why"
                ;;
            backup)
                echo "opening the repository of backups"
                repository_open "$name" || fail "cannot open the repository of backups: $(tail -n 1 "$work/log")"
                ;;
            redis) redis_make "$name" || fail "cannot write the password of Redis to /etc/$name" ;;
            end) ;;
            *) fail "unknown step: $verb" ;;
        esac
    done 7<"$work/plan" </dev/null
}

# No process that a step leaves running keeps the lock.
carry_out 8>&-
rm -f "/etc/$name/pending"
