"""Runs the site as processes of this machine, with embedded servers (`dev --native`).

May not be here: containers.
"""
