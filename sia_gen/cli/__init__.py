"""The command `sia-gen`."""
