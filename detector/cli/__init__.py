"""The command `detector`."""
