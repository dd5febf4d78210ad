"""What every model family must keep, and what is special about some."""
