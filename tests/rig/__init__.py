"""Real servers for the suites, from the system's packages. Each is stopped with the test that started it."""
