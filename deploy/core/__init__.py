"""The ground: errors, the one way to run a command, what is shown of it. Imports nothing else of `deploy`."""
