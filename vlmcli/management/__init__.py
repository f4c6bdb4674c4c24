"""The work of `vlm models`: what is here, how it is shown, fetched, checked and removed."""
