"""Worker processes: starting and ending them, exchanging messages with them, sharing a list of tasks with them."""
