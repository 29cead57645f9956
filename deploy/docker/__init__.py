"""What compose and swarm share: `.env`, the stack that it describes, the engine, images.

May not be here: how either of them puts a release into service.
"""
