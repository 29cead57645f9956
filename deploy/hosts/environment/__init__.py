"""What the user says about hosts: the environment file, checked as a whole, and its secrets.

May not be here: anything that connects.
"""
