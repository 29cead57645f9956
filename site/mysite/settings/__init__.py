"""Settings, all read from the process environment: NAME, or NAME_FILE with the path of a file that contains the value.

`settings` has what the other two share. `development` adds embedded defaults and needs no variables. `production` has
no defaults for values that must not be guessed. DJANGO_SETTINGS_MODULE names one of the two.
"""
