# shellcheck shell=sh
# Runs a script as root. The first line of standard input is the script (base64); the rest is the script's own input. It
# gets two arguments: the SSH port of this connection, and the home of the administrator, whose keys setup copies.
set -eu
# shellcheck disable=SC2016 # root's shell expands it
run='IFS= read -r script; script=$(printf %s "$script" | base64 -d); eval "$script"'
# shellcheck disable=SC2086 # four words: the client's address and port, ours
set -- ${SSH_CONNECTION:-}
port=${4:-22}
if [ "$(id -u)" -eq 0 ]; then
    exec /bin/sh -c "$run" setup "$port" "$HOME"
fi
if ! command -v sudo >/dev/null; then
    echo "$(id -un) is not root, and there is no sudo" >&2
    exit 77
fi
if ! said=$(sudo -n true 2>&1); then
    case $said in
    *'have a tty'*) echo "sudo wants a terminal of $(id -un) (requiretty): write \`Defaults:$(id -un) !requiretty\` below that" >&2 ;;
    *) echo "$(id -un) may not become root without a password" >&2 ;;
    esac
    exit 77
fi
exec sudo -n /bin/sh -c "$run" setup "$port" "$HOME"
