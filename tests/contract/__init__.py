"""One list of promises that compose, swarm and hosts must keep alike.

`promises` has the list; each suite that has a runtime set up runs it there, by a `runtime` fixture of its own.
"""
