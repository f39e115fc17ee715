"""What makes it simpler to write a driver."""
