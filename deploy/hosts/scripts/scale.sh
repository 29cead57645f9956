# shellcheck shell=sh
# shellcheck disable=SC2154 # frame.sh sets `name`: what the host calls the site; numbers.sh sets `scales`
# Changes the number of processes of a kind of units on this host, for their next start: nothing restarts here.
# Standard input, each a line: the values below.
# Standard output: the number that was changed to before, or - for the environment file's.
set -eu
IFS= read -r release        # the one that serves, as the client knows it
IFS= read -r kind           # web, worker or worker_NAME
IFS= read -r number         # 1 to 64, or - for what the environment file says

fail() {
    echo "$1" >&2
    exit 1
}
umask 022
grep -q '/state/scale"' "/usr/local/lib/$name/launch" || fail 'its launcher knows no change of numbers: run remote-setup first'
[ "$(readlink "/srv/$name/state/current")" = "../releases/$release" ] || fail 'serves another release by now; run the command again'
own=$(own_number "$kind" "$release")
[ -n "$own" ] || fail "$kind of $release has no number: deploy first"
touch "$scales"
before=$(sed -n "s/^$kind \([0-9]*\) $own\$/\1/p" "$scales")
{
    sed "/^$kind /d" "$scales"
    [ "$number" = - ] || [ "$number" = "$own" ] || echo "$kind $number $own"
} >"$scales.new"
mv "$scales.new" "$scales"
echo "${before:--}"
