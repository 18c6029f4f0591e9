"""A version as a folder: staged, completed, sealed, proven."""
