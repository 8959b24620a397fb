"""Trained models, from anywhere, on images: scores, comparisons, predictions, maps."""
