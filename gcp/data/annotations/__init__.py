"""The annotations of a data set on disk: which file has which label, in which split. Nothing is decoded."""
