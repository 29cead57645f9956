"""Plain Debian hosts over SSH: what a host is, what must be done on it, and doing it.

`environment` and `layout` describe, `ssh` reaches, `setup` makes a host ready, `release` puts a release into service;
`operate` has the small commands. `store` runs on the hosts themselves. Nothing here knows of containers.
"""
