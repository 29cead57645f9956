"""SSH to the hosts: pinned host keys, connections, scripts and locks over them.

May not be here: what a script is for.
"""
