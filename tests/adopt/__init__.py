"""Other teams' projects: each is adopted, and run, without a change of one of its files."""
