"""Training and evaluation as plain functions. Nothing here knows a configuration file."""
