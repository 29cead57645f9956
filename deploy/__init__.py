"""The machinery: what Portico does to run a site somewhere.

Lives here: layers, runtimes, what each of them answers, and the one way to run a command. It is called by tasks.py.
May not be here: Django, Celery, or anything that knows what the site does.
"""

#: The oldest Python that the machinery runs on, and that the locks are made for.
OLDEST = (3, 11)
