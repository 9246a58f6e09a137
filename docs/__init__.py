"""Documentation pages, and what makes those that are generated."""
