"""Files of weights: what they are, and how they are written."""
