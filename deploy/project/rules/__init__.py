"""What `invoke check` finds: each rule is a function that takes what is known and yields findings.

May not be here: reading source (that is `source`), printing, changing anything.
"""
