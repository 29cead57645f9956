"""Seconds on which several runtimes, scripts and files must agree, and what holds between them.

A value stands here when more than one place knows it, or when it must be more or less than another. What only one
module needs stays in that module. Units, scripts and YAML cannot import this: `tests/unit/project/test_limits.py` reads
them and compares.
"""

from __future__ import annotations

# --- A release comes into service ---

#: Its one-shot part, migrations above all: the same everywhere, or it would deploy here and not there.
MIGRATE = 3600
#: For a new replica or unit that is up to answer its probes: servers reached, migrations applied.
READY = 20
#: For new containers to become healthy: Django's boot, on a machine where everything starts at once.
HEALTHY = 150
#: For services of a swarm to be as a stack file says: health, the watching after it, waves of workers.
CONVERGE = 900
#: A management command that runs as a job of its own: as long as one over SSH may.
COMMAND = 24 * 60 * 60

assert READY < HEALTHY < CONVERGE < MIGRATE < COMMAND

# --- What was before ends ---

#: That requests under way have (gunicorn's graceful time-out), and that running tasks have before they are given back.
REQUEST, TASK = 30, 60
#: After which the engine kills an app, a worker: more than they give to what is under way.
STOP_APP, STOP_WORKER = 40, 75
#: That nginx's old processes have before replicas stop without them: they hold at least each request that an app does.
DRAIN = 60

assert REQUEST < STOP_APP
assert TASK < STOP_WORKER
assert REQUEST <= DRAIN

# --- Who holds a lock, and who is still there ---

#: On a swarm: between two signs of life of a lock's holder, after which the holder itself takes the lock for lost, and
#: after which others take it over. The rest between the last two is for a change on its way to the swarm.
SWARM_BEAT, SWARM_LEASE, SWARM_STALE = 3, 15, 20
#: On hosts: between two signs of life for a lock, and without one after which the host frees it.
HOST_BEAT, HOST_STALE = 15, 60
#: On hosts, while a release comes into service: between two words, and without one after which a host puts itself back.
SIGN, SILENCE = 10, 40

assert 2 * SWARM_BEAT < SWARM_LEASE < SWARM_STALE - SWARM_BEAT // 2
assert 3 * HOST_BEAT < HOST_STALE
assert 3 * SIGN < SILENCE
