"""Plain Debian hosts over SSH: what a host is, what is to be done on it, and doing it.

What a host is and what is to be done are values, decided without asking anybody (`environment`, read by `yaml_lines`);
only what connects does anything. Nothing here knows of containers.
"""
