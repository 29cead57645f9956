"""The promises, each held by a test."""
