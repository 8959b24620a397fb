"""Pure tensor functions: no state, no options beyond their arguments, torch only."""
