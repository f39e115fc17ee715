"""User namespaces for ordinary users, in which they may mount.

An ordinary user may not mount. In a user namespace the same user is root: of mounts that only the namespace sees, and
of those user and group IDs that are mapped into it (user_namespaces(7)).

- `rights` finds out whether this process may mount, and whether it acts for root.
- `subordinate` finds the IDs that an ordinary user may map: subuid(5), subgid(5).
- `create` makes a namespace, and `enter` moves this process into it.
- `members` lets all processes of a user share one namespace, and so the mounts in it.
- `syscalls` has the calls that Python lacks before 3.12.
"""
