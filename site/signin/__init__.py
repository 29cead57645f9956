"""Signing in: how many wrong passwords an account and a device may try."""
