"""`scripts/train_glow.py`: from a configuration to a trained flow, its score and its pictures."""
