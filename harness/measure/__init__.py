"""Score files to detection records."""
