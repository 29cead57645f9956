# shellcheck shell=sh
# shellcheck disable=SC2034,SC2154 # those use `scales`; frame.sh sets `name`: what the host calls the site
# The number of processes of a kind of units (scale.sh), and of those, what `remote-scale` has changed; sent before
# look.sh and scale.sh. The file has a line `KIND NUMBER OWN` for each kind: NUMBER stands for OWN, which the release's
# environment says. Another number there counts again (launch.sh).
scales=/srv/$name/state/scale

own_number() { # KIND, RELEASE
    case $1 in
        web) sed -n 's/^WEB_CONCURRENCY=\([0-9]*\)$/\1/p' "/srv/$name/releases/$2/env" ;;
        *) sed -n "s/^PORTICO_WORKER${1#worker}='-c \([0-9]*\) .*/\1/p" "/srv/$name/releases/$2/env" ;;
    esac
}
