"""Helper processes: how they are started, what they are told, how work is shared with them."""
