"""A release from a commit into service on all hosts, or on none; and back (`remote-deploy`, `remote-rollback`).

May not be here: what setup lays down.
"""
