"""What is deployed, the same on every runtime: its configuration, the proxy before it, the seconds it is given.

May not be here: how a runtime does it.
"""
