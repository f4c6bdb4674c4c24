"""What a user names -> pictures and clips, read within the limits of the settings."""
