"""Why a cut loses something: what of the interrupted step had reached the medium, and what had not."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable

from pdmlab.storage.powercuts.cuts import Cut, reordered
from pdmlab.storage.powercuts.geometries import Geometry
from pdmlab.storage.powercuts.image import Operation
from pdmlab.storage.powercuts.story import Places
from pdmlab.storage.powercuts.trace import Trace


def cause_of(trace: Trace, cut: Cut, places: Places, geometry: Geometry) -> str:
    """Return in a sentence which operations of the step were done, torn, and missing, by the place they went to."""
    index = cut.operation - 1
    step = trace.step_of(index)
    first = trace.ends[step - 1] if step else 0
    mine = trace.operations[first : trace.ends[step]]
    at = index - first
    done, torn, missing = list(mine[:at]), mine[at], list(mine[at + 1 :])
    parts = []
    if cut.kind == "a":
        done.append(torn)
    elif cut.kind == "b":
        missing.insert(0, torn)
    elif cut.kind == "r":
        done.append(torn)
    else:
        how = f"{min(cut.number, len(torn.new))} of {len(torn.new)} B"
        if cut.kind == "x":
            how = "a block of garbage" if geometry.overwrites else "some of its bits"
        parts.append(f"torn: {_name(torn, places)} ({how})")
    if cut.kind == "r":
        held = trace.operations[trace.held_back(index, geometry.cache) : index + 1]
        kept = {id(each) for each in reordered(held, cut.number)}
        gone = [each for each in held if id(each) not in kept]
        done = [each for each in done if all(each is not lost for lost in gone)]
        parts.append(f"never left the cache: {_list(gone, places) or 'nothing'}")
    parts.insert(0, f"on the medium: {_list(done, places) or 'nothing'}")
    parts.append(f"missing: {_list(missing, places) or 'nothing'}")
    return f"Of the step's operations {'; '.join(parts)}."


def _name(operation: Operation, places: Places) -> str:
    where = places(operation)
    return f"{operation.kind} of {where}" if where else operation.words


def _list(operations: Iterable[Operation], places: Places) -> str:
    counts = Counter(_name(each, places) for each in operations)
    named = [f"{name} x {count}" if count > 1 else name for name, count in counts.items()]
    return ", ".join(named if len(named) <= 4 else [*named[:3], f"{len(named) - 3} more"])
