"""`upgrade`: a newer Portico in an adopted repository, without a change of what is the project's own.

Lives here: the record of what is installed, Portico's repository, what an upgrade writes, the swap that survives a
kill.
"""
