"""All that a GPU shows, by one command within ten minutes. Knows no option and no table."""
