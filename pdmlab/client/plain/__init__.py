"""A plain LwM2M device, for any LwM2M 1.0 or 1.1 server: standard paths and formats, nothing of the vendor's dialect.

A request comes in by `link` (one server), is answered by `answering` from the `tree` of `objects`, in a format of
`reading` and `writing`; `observing` tells what changes. `session` holds the links, and `bootstrapping` their accounts.
"""
