"""Plain Debian hosts over SSH: describe them, set them up, deploy to them.

`environment` and `layout` describe, `ssh` connects, `setup` makes a host ready, `release` deploys a release;
`operate` has the small commands. `store` runs on the hosts themselves. Nothing here knows of containers.
"""
