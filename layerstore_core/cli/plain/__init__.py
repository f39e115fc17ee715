"""Commands without click: the few that scripts call most, in their usual form.

To load click takes three times as long as an empty program. `lines` reads the command lines that are plain, and runs
them; all others go to the application (`cli.app`), whose commands call the same functions: `layers`, `writable`.
"""
