"""Layered virtual environments: what a layer is, the store of those built, building, checking, locking.

`layers`, `store`, `build` and `finish_layer` are standard library only: the bootstrap and the hosts run them.
"""
