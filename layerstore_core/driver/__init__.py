"""Drivers: the contract, and how the store finds, chooses and calls a driver."""
