#!/bin/sh
# What runs in the container with restic: restic.sh WORD ARGUMENTS…
#
# /backup/set is what a snapshot has: database.dump and manifest.json, and the volumes of the site that are mounted there.
set -eu
umask 022

set=/backup/set
# Beside the files of a volume: those that are put back. And where those go that they replace.
coming=.portico-restore
kept=/backup/before
no_room=28

# shellcheck source=/dev/null
. /run/secrets/backup_variables
if [ -s /run/secrets/backup_ssh_key ]; then
    # ssh refuses a key that others may read, and the secret files may be read in this container.
    (umask 077 && cat /run/secrets/backup_ssh_key >/tmp/key && cat /run/secrets/backup_ssh_known_hosts >/tmp/known)
    ssh='-i /tmp/key -o IdentitiesOnly=yes -o BatchMode=yes -o StrictHostKeyChecking=yes'
    ssh="$ssh -o UserKnownHostsFile=/tmp/known -o ConnectTimeout=20 -o ServerAliveInterval=15 -o ServerAliveCountMax=4"
fi

repository() { # WORDS…: restic, which waits for a while for another that uses the repository
    if [ -n "${ssh:-}" ]; then
        restic --quiet --retry-lock 2m -o "sftp.args=$ssh" "$@"
    else
        restic --quiet --retry-lock 2m "$@"
    fi
}

empty() { # removes the dump and its manifest
    rm -f "$set/database.dump" "$set/manifest.json"
}

require_room() { # BYTES, beside 256 MB
    free=$(df -Pk /backup | awk 'NR == 2 { print $4 }')
    if [ "$free" -lt $(($1 / 1024 + 262144)) ]; then
        echo "the engine's disk has $((free / 1024)) MB free, and the database has $(($1 / 1048576)) MB" >&2
        exit "$no_room"
    fi
}

describe() { # what the dump is: its hash and its bytes
    if [ ! -s "$set/database.dump" ]; then echo 'the dump is empty' >&2 && exit 1; fi
    printf '%s %s\n' "$(sha256sum <"$set/database.dump" | cut -d ' ' -f 1)" "$(wc -c <"$set/database.dump")"
}

word=$1
shift
case $word in
    repository)
        repository "$@"
        ;;
    receive) # BYTES: the dump, from standard input
        empty
        require_room "$1"
        cat >"$set/database.dump"
        describe
        ;;
    add) # the manifest, from standard input; SITE TAGS…
        cat >"$set/manifest.json"
        host=$1
        shift
        repository backup --json --host "$host" --exclude "$set/*/.portico-*" "$@" "$set"
        ;;
    forget) # WORDS of restic's
        repository unlock # only locks whose programs are long gone
        repository forget "$@"
        ;;
    send) # the dump, to standard output
        cat "$set/database.dump"
        ;;
    empty)
        empty
        ;;
    manifest) # ID FOLDER
        repository dump "$1" "$2/manifest.json"
        ;;
    fetch) # ID FOLDER BYTES NAMES…: the dump; and the files are read, which shows damage, but are put nowhere yet
        id=$1 folder=$2
        empty
        require_room "$3"
        shift 3
        repository dump "$id" "$folder/database.dump" >"$set/database.dump"
        for name; do repository dump --archive tar "$id" "$folder/$name" >/dev/null; done
        describe
        ;;
    stage) # ID FOLDER NAMES…: keep the files that are there elsewhere, and bring the others beside them
        id=$1 folder=$2
        shift 2
        rm -rf "${kept:?}/$id"
        for name; do
            (umask 077 && mkdir -p "$kept/$id")
            cp -a "$set/$name" "$kept/$id/"
            rm -rf "${set:?}/$name/$coming" "${kept:?}/$id/$name/$coming"
            mkdir -m 700 "$set/$name/$coming"
            repository restore "$id:$folder/$name" --target "$set/$name/$coming"
        done
        ;;
    unstage) # ID NAMES…: as if there had been no `stage`
        rm -rf "${kept:?}/$1"
        shift
        for name; do rm -rf "${set:?}/$name/$coming"; done
        ;;
    swap) # NAMES…: the files that came, in the place of those that are there
        for name; do
            cd "$set/$name"
            find . -mindepth 1 -maxdepth 1 ! -name "$coming" -exec rm -rf {} +
            find "$coming" -mindepth 1 -maxdepth 1 -exec sh -c 'for each; do mv -- "$each" .; done' sh {} +
            rmdir "$coming"
        done
        ;;
    unswap) # ID NAMES…: the files that were kept, in the place of those that are there
        id=$1
        shift
        for name; do
            find "$set/$name" -mindepth 1 -maxdepth 1 -exec rm -rf {} +
            cp -a "$kept/$id/$name/." "$set/$name/"
        done
        ;;
    drop) # what `stage` has kept
        rm -rf "${kept:?}"
        ;;
    *)
        echo "restic.sh: unknown word: $word" >&2
        exit 2
        ;;
esac
