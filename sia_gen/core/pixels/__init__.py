"""Images, masks and their encodings."""
