"""One module per library under test; each runs as a process in that library's environment."""
