"""The stack on a swarm: rendered from the compose files, deployed, followed to its end, taken back.

`render` and `state` decide and do nothing; `manager` asks and tells the engine; `deploy` is the order of a release,
`lock` and `ledger` what the swarm itself remembers of it, `view` what is seen of it; `operate` has the small commands.
"""
