"""Deploy a commit to all hosts, or to none, and roll it back (`remote-deploy`, `remote-rollback`).

May not be here: what setup lays down.
"""
