"""What a run or a comparison shows: curves, tables."""
