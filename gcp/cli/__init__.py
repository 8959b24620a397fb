"""The commands. The only place, beside `gcp.config`, that knows a configuration."""
