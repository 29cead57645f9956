"""A page that shows what of the site runs now: who answers, which release, the workers, beat, the servers."""
