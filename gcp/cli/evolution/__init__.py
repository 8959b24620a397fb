"""The study of evolving widths: its runs and its tables."""
