"""What is the same on every runtime: the project's configuration, the proxy in front of it, time limits.

May not be here: how a runtime works.
"""
