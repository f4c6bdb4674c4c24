"""One file a command: parse, call, print. What they share is in options, pictures and answers."""
