"""The stack on this machine's engine, beside its YAML files: containers, nginx in front, rollouts, development.

May not be here: what the swarm needs too (`deploy.docker`).
"""
