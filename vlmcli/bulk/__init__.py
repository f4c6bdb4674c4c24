"""Many pictures, one record each: what is asked, what is done already, and where it is kept.

Knows files and records. Nothing here decodes a picture or loads a model.
"""
