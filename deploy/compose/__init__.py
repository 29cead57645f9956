"""The stack on this machine's engine, with its YAML files: containers, nginx, development, rollouts with their journal
and ledger.

May not be here: what the swarm needs too (`deploy.docker`).
"""
