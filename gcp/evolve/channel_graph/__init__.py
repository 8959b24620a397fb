"""Which channels of a model change together: found by calling it once (`tracer`), kept as a graph of `Dimension`s."""
