# shellcheck shell=sh
# shellcheck disable=SC2317,SC2329,SC2154 # facts.sh and apply.sh, which follow, call these; apply.sh sets `work`
# The repository of backups, for facts.sh and apply.sh: `backup prepare` (backup.sh) notes which one it has opened.

repository_missing() { # NAME
    wanted=$(sed -n 's/^RESTIC_REPOSITORY=//p' "/etc/$1/backup.conf" 2>/dev/null | tr -d "'") || wanted=
    [ -n "$wanted" ] && [ "$(cat "/var/lib/$1-backup/repository" 2>/dev/null)" = "$wanted" ] || echo repository
}

repository_open() { # NAME
    "/usr/local/lib/$1/backup" prepare >"$work/log" 2>&1
}
