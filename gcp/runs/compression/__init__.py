"""What a compression costs and saves, over sizes and methods."""
