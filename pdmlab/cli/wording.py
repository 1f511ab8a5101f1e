"""Hints in the command line's words: what is said in Python elsewhere, and what one types instead."""

from __future__ import annotations

_TYPED = {
    "serve(name='second'), or pdmlab service --name second": "`pdmlab service --name second`",
    "that one through Cloud(url, key), its key is in": "that one: `pdmlab page` and `pdmlab dm` find it, its key is in",
    "serve(name='mine')": "`pdmlab service --name mine`",
    "or serve() without a host": "or leave --host out",
    "cloud.devices() lists": "`pdmlab dm devices` lists",
    "give api_key=, or": "give -a, or",
    "give ca=, or set": "set",
    ", service.ca_file": ", which `pdmlab service` prints",
    "service.page(port=0)": "--page-port 0",
    "`pdmlab service` or pdmlab.serve()": "`pdmlab service`",
    "pdmlab.serve() or `pdmlab service`": "`pdmlab service`",
}


def typed(hint: str) -> str:
    """Return a hint for whoever types commands."""
    for said, command in _TYPED.items():
        hint = hint.replace(said, command)
    return hint
