"""What drivers get from the core while they work."""
