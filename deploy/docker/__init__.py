"""What compose and swarm share: `.env`, the stack it describes, the engine, images, the choice of a release to restore.

May not be here: how either of them deploys a release.
"""
