"""Worker processes: `process` starts and ends one, also with shared memory.

A worker is an optimisation only: where none can be started, the parent does all the work itself.
"""
