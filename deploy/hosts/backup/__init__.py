"""Backups of the site, and restoring one: database, files, and the release of that time.

May not be here: how a backup is made. The host does that by itself (`scripts/backup.sh`).
"""
