"""From a configuration to a training run and its result."""
