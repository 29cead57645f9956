"""What a host must be, what it is, the difference, and applying it (`remote-setup`).

May not be here: releases; a host that is set up serves nothing yet.
"""
