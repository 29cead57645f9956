"""What compose and swarm share: `.env`, the stack that it describes, engine, images, which release a rollback means.

May not be here: how either of them puts a release into service.
"""
