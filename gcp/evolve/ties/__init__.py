"""Which channels of a model hang together: found by calling it once (`tracer`), kept as a graph of `Dimension`s."""
