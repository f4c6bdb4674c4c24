"""One file a command: parse, call, print. What all of them share is in options."""
