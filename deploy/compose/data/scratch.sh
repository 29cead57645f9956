#!/bin/bash
# What runs in a container of PostgreSQL's for a proof: a new server without a network, whose data need not survive.
set -eu
if [ "$(id -u)" = 0 ]; then
    install -d -o postgres -g postgres -m 700 "$PGDATA"
    exec gosu postgres bash "$0"
fi
initdb --username=postgres --auth=trust --encoding=UTF8 --no-sync >/dev/null
exec postgres -c listen_addresses=127.0.0.1 -c fsync=off -c full_page_writes=off -c synchronous_commit=off \
    -c max_connections=50 -c shared_buffers=128MB
