"""The commands that measure, and their tables."""
