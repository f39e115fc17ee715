"""The records of snapshots: which there are, what each is of, and which layers of the driver they need."""
