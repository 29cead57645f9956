"""The user's description of the hosts: the environment file, validated as a whole, and its secrets.

May not be here: anything that connects.
"""
