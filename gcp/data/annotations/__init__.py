"""What a data set on disk says of itself: which file has which label, in which split. Nothing is decoded."""
