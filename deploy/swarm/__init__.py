"""The stack on a swarm: render it from the compose files, deploy it, follow the rollout, roll it back.

`coerce`, `model`, `render` and `state` decide and change nothing; `stack` and `images` say what is deployed; `manager`
runs docker commands; `deploy` orders the steps of a release and `jobs` runs its one-shot services; `lock` and `ledger`
store state in the swarm; `view` shows progress; `membership` adds and removes nodes; `operate` has the small commands.
"""
