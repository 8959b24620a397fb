"""A grid of runs: what it consists of, how its cells are run, and what they show together."""
