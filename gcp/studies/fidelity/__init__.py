"""How far the gradient of each backward is from the exact one, without training.

spectra and captured -> features; oracle -> the exact gradient; methods -> what is compared; measure -> errors; safety,
table and plot -> what they say.
"""
