"""Files of weights: what a file is, reading it without executing it, and the order of the triangle."""

from gcp.models.checkpoints.checkpoint import Checkpoint, State, is_there, open_checkpoint, read_checkpoint

__all__ = ["Checkpoint", "State", "is_there", "open_checkpoint", "read_checkpoint"]
