"""Time limits, in seconds, on which several runtimes, scripts and files must agree, and the relations between them.

A value is here if more than one place uses it, or if it must be greater or less than another. A value that only one
module needs is in that module. Units, scripts and YAML cannot import this module: `tests/unit/project/test_limits.py`
reads them and compares.
"""

from __future__ import annotations

# --- Starting a release ---

#: For the one-shot part of a release, above all migrations. The same on every runtime, so that a release that deploys
#: on one deploys on all.
MIGRATE = 3600
#: For a new replica or unit, once it runs, to answer its probes: servers reached, migrations applied.
READY = 20
#: For new containers to become healthy: Django's start, on a machine where everything starts at once.
HEALTHY = 150
#: For the services of a swarm to reach the state in the stack file: health, the monitoring after it, waves of workers.
CONVERGE = 900
#: On hosts, for a backup, for the proof of one, and for fetching and loading one; the unit has the same limit.
BACKUP = 6 * 60 * 60
#: For a management command that runs as its own job; a command over SSH has the same limit.
COMMAND = 24 * 60 * 60

assert READY < HEALTHY < CONVERGE < MIGRATE < BACKUP < COMMAND

# --- Stopping a release ---

#: For running requests to finish (gunicorn's graceful timeout), and for running tasks before they return to the queue.
REQUEST, TASK = 30, 60
#: After which the engine kills an app or a worker: more than these give to running requests and tasks.
STOP_APP, STOP_WORKER = 40, 75
#: For nginx's old processes to end; after it, replicas are stopped anyway. At least as long as an app gives a request.
DRAIN = 60
#: After which the engine kills a server with data; and after which a swarm starts the new task of a service that stops
#: first, whether the old one has ended or not (a constant in swarmkit): two on one volume would spoil it.
STOP_SERVER, SWARM_STOPS_FIRST = 45, 60

assert STOP_SERVER <= SWARM_STOPS_FIRST - 10
assert REQUEST < STOP_APP
assert TASK < STOP_WORKER
assert REQUEST <= DRAIN

# --- Tasks ---

#: For a task that has no limit of its own. All of the following are multiples of it, or less.
TASK_LONGEST = 4 * 60 * 60
#: How many tasks a process of a worker reserves (Celery's own `worker_prefetch_multiplier`): the last of them is not
#: acknowledged before all others are done.
RESERVED = 4
#: After which RabbitMQ takes a task back that is not acknowledged, and ends the channel of its worker
#: (`consumer_timeout`). It is 30 minutes by default; a task that takes longer would run again, for ever.
CONSUMER = 6 * TASK_LONGEST

assert TASK < STOP_WORKER < TASK_LONGEST
assert (RESERVED + 1) * TASK_LONGEST + STOP_WORKER < CONSUMER

# --- Locks and liveness ---

#: On a swarm: between two heartbeats of a lock's holder; without one, after which the holder considers the lock lost;
#: and after which others take it over. The time between the last two is for a change that is on its way to the swarm.
SWARM_BEAT, SWARM_LEASE, SWARM_STALE = 3, 15, 20
#: On hosts: between two heartbeats for a lock; and without one, after which the host releases it.
HOST_BEAT, HOST_STALE = 15, 60
#: On hosts, while a release starts: between two messages; and without one, after which a host rolls back by itself.
SIGN, SILENCE = 10, 40

assert 2 * SWARM_BEAT < SWARM_LEASE < SWARM_STALE - SWARM_BEAT // 2
assert 3 * HOST_BEAT < HOST_STALE
assert 3 * SIGN < SILENCE
