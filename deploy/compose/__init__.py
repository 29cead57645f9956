"""The stack on this machine's engine, beside its YAML files: containers, nginx in front, development, rollouts
with their journal and ledger.

May not be here: what the swarm needs too (`deploy.docker`).
"""
