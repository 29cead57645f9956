"""The basis: errors, running commands, actions, reports and output. Imports nothing else of `deploy`."""
