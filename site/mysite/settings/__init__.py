"""Settings, all read from the process environment: NAME, or NAME_FILE with the path of a file that holds the value.

`settings` is what every place shares. `development` adds embedded defaults and needs nothing set. `production` has no
defaults for what must not be guessed. DJANGO_SETTINGS_MODULE names one of the two.
"""
