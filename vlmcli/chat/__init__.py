"""A conversation about pictures.

`opening` begins one or goes on with one; `loop` takes what is typed, line by line, to `slash` (the
commands) or to `session` (the questions). `conversation` is what was said, as data; `lines` finds
in a line what is to be looked at, `attaching` reads it, `context` tells what has room, `tuning`
changes settings. `store` and `remembering` keep a chat on the disk, `files` writes it to one of the
user's. `editor` and `completing` are the line itself.
"""
