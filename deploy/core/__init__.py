"""The ground: errors, the one way to run a command, actions, what is shown. Imports nothing else of `deploy`."""
