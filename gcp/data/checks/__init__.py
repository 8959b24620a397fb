"""What can be wrong with a data set: faults found in seconds before every training, and those that take longer."""
