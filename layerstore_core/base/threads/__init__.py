"""The threads of the program. No other module of the core starts any.

- A `Lane` makes calls one at a time and in order, while the code that puts them goes on. `submit` makes one call. Both
  are for calls that release the GIL for most of their time, and do not wait: hashing, compression, work on a local
  file. They share one pool, which has as many threads as the program may use cores. So all that runs at once shares
  them.
- A call that may wait (for a server, for the reader of a pipe, for another call) would hold a thread of the pool, and
  what it waits for may need that thread. Such calls have threads of their own: `Lane(waits=True)` and `Threads`.

Threads are started when there is work, and end when there has been none for a while. An exception such as
`KeyboardInterrupt` in any wait leaves all of this usable. A forked child begins without threads: what was put into a
lane before is its parent's. At the end of the program, calls that run may finish, and the others are dropped.
"""

from layerstore_core.base.threads.lane import Lane
from layerstore_core.base.threads.pool import cores, rest
from layerstore_core.base.threads.tasks import Dropped, Task, Threads, submit, wait_for_all

__all__ = ["Dropped", "Lane", "Task", "Threads", "cores", "rest", "submit", "wait_for_all"]
