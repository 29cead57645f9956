"""The desired state of a host, its actual state, the difference, and applying it (`remote-setup`).

May not be here: releases; a host that is set up serves nothing yet.
"""
