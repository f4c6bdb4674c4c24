"""What is known of models without loading one: names, files, the table, what the cache holds.

Quick to import: shell completion and `vlm models ls` are made of it.
"""
