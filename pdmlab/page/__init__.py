"""A live page of a service, for people who do not write Python: devices, values, messages, campaigns, credentials.

It is a process of its own and a plain client of the REST API: `pdmlab page`, `service.page()`, or `pdmlab service`,
which starts one beside itself. Whoever opens it signs in with an API key, and sees what that key may see.
"""
