"""The stack on a swarm: rendered from the compose files, deployed, followed to its end, taken back.

`coerce`, `model`, `render` and `state` decide and do nothing; `stack` and `images` say what is deployed; `manager` asks
and tells the engine; `deploy` is the order of a release and `jobs` what runs once in it; `lock` and `ledger` are what
the swarm itself remembers, `view` what is seen of it; `membership` makes nodes, `operate` has the small commands.
"""
