"""Real servers for the suites, started from the system's own packages and ended with what asked for them."""
