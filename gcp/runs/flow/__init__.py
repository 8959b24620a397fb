"""Flows: from a configuration to a trained flow, its score and its pictures; what a trained one makes of images."""
