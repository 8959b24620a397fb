"""What the parts cost: heads, kernels, layers, flows, a training step, the loop and the loader, measured in turns."""
