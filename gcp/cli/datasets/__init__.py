"""What there is to be known of a data set on disk, and how it is told."""
