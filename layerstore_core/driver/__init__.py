"""Drivers: the contract, how one is found and chosen, and how the store calls it."""
