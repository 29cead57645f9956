"""Layered virtual environments: the definition of layers, the store of built ones, building, checking, locking.

`layers`, `store`, `build` and `finish_layer` use the standard library only: the bootstrap and the hosts run them.
"""
