"""Worker processes: starting and ending them, exchanging messages with them, sharing a list of tasks with them.

- `process` starts and ends a worker process, also with shared memory.
- `channel` exchanges messages with a worker over a socket.
- `share` shares a list of tasks between this process and a worker.

A worker is an optimisation only: where none can be started, the parent does all the work itself.
"""
