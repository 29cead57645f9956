"""The data of production on this machine: backups, restores, and their proof.

restic runs in a container of its own, PostgreSQL's programs in PostgreSQL's. What they are told is decided in
`restic.py` and `database.py`; `make.py`, `restore.py` and `verify.py` put that in order.
"""
