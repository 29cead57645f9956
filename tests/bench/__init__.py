"""Timed claims: each program runs the rival beside ours in one go and prints the ratio.

Run one with `python3 -m tests.bench.NAME` from the project's root; it prepares what it needs in a temporary folder.
"""
