"""Writes: one resource, an instance replaced or in part, a new instance, or several paths at once."""

from __future__ import annotations

from aiocoap.numbers import codes

from pdmlab.client.plain.objects import MOST_INSTANCES, Content, Lwm2mObject, Refusal
from pdmlab.client.plain.tree import ObjectTree
from pdmlab.errors import Lwm2mError
from pdmlab.lwm2m import content, tlv
from pdmlab.lwm2m.content import RECORDS, SINGLE, TLVS
from pdmlab.lwm2m.paths import MAX_ID, Path
from pdmlab.lwm2m.payload import Values, decode_all
from pdmlab.lwm2m.registry import ResourceDefinition

Write = tuple[Lwm2mObject, int, int, Content | None]


def read_payload(tree: ObjectTree, path: Path | None, payload: bytes, format: int | None) -> Values:
    """Return what a write to a path says (None: of any path).

    Raises:
        Refusal: the format is not known (4.15), or the payload makes no sense (4.00).
    """
    single = format is None or format in SINGLE
    if not single and format not in TLVS and format not in RECORDS:
        raise Refusal(codes.UNSUPPORTED_CONTENT_FORMAT, content.unknown_format(format or 0).message)
    try:
        if not single:
            return decode_all(payload, tree.type_of, format, path)
        known = tree.definition(path) if path is not None else None
        if path is None or path.resource is None:
            raise Refusal(codes.UNSUPPORTED_CONTENT_FORMAT, "several values come in TLV, SenML or JSON")
        if known is None:
            raise Refusal(codes.NOT_FOUND, f"there is no {path}")
        if known.type is None:
            raise Refusal(codes.METHOD_NOT_ALLOWED, f"{path} can only be executed")
        value = content.decode(payload, known.type, format, path)
        if path.resource_instance is not None and not isinstance(value, dict):
            value = {path.resource_instance: value}
        return {Path(path.ids[:3]): value}
    except Refusal:
        raise
    except Lwm2mError as error:
        raise Refusal(codes.BAD_REQUEST, error.message) from error


def read_new_instance(tree: ObjectTree, path: Path, payload: bytes, format: int | None) -> Values:
    """Return what a Create of an object says; in TLV it may leave the instance's id to the device.

    Raises:
        Refusal: as read_payload does.
    """
    if format in TLVS and payload:
        try:
            first = tlv.decode(payload)[0].kind
        except Lwm2mError as error:
            raise Refusal(codes.BAD_REQUEST, error.message) from error
        if first in (tlv.Kind.RESOURCE, tlv.Kind.MULTIPLE_RESOURCE):
            path = path / free_instance(tree.object(path))
    return read_payload(tree, path, payload, format)


def free_instance(found: Lwm2mObject) -> int:
    """Return the least id that no instance has."""
    there = set(found.instances())
    return next(id for id in range(MAX_ID + 1) if id not in there)


def write_resource(tree: ObjectTree, path: Path, values: Values, *, partial: bool) -> None:
    """Write a resource or one instance of it; partial keeps the other instances of a multiple one."""
    found = tree.object(path)
    assert path.instance is not None and path.resource is not None
    tree.require(Path(path.ids[:2]))
    resource = Path(path.ids[:3])
    if set(values) != {resource}:
        raise Refusal(codes.BAD_REQUEST, f"the payload is not of {resource}")
    value = values[resource]
    if path.resource_instance is not None:
        tree.require(resource)
        if not isinstance(value, dict) or set(value) != {path.resource_instance}:
            raise Refusal(codes.BAD_REQUEST, f"the payload is not of {path}")
        partial = True
    _commit([_writable(tree, found, resource, value, partial=partial)])


def write_instance(tree: ObjectTree, path: Path, values: Values, *, replace: bool) -> None:
    """Write the resources of an instance; replace takes away what can be written and is not among them."""
    found = tree.require(path)
    assert path.instance is not None
    writes = [_writable(tree, found, each, value, partial=not replace) for each, value in values.items()]
    if replace:
        for id, known in found.resources(path.instance).items():
            left_out = path / id not in values
            if left_out and "W" in known.operations and not known.mandatory:
                writes.append((found, path.instance, id, None))
    _commit(writes)


def write_composite(tree: ObjectTree, values: Values) -> None:
    """Write resources of any objects, all or none."""
    writes = []
    for path, value in values.items():
        found = tree.require(Path(path.ids[:2]))
        writes.append(_writable(tree, found, path, value, partial=True))
    _commit(writes)


def create_instance(tree: ObjectTree, path: Path, values: Values) -> Path:
    """Make an instance of an object, of the id in the payload or the least free one; return its path."""
    found = tree.object(path)
    wanted = {each.ids[1] for each in values}
    there = list(found.instances())
    instance = wanted.pop() if wanted else free_instance(found)
    if wanted:
        raise Refusal(codes.BAD_REQUEST, "one instance is created at a time")
    if instance in there:
        raise Refusal(codes.BAD_REQUEST, f"{path}/{instance} is there already")
    for each, value in values.items():
        known = found.definition(each.ids[2])
        if known is None or known.type is None:
            raise Refusal(codes.BAD_REQUEST, f"there is no value {each}")
        _shaped(each, known, value)
    found.create(instance)
    try:
        for each, value in values.items():
            found.check(instance, each.ids[2], value)
        _commit([(found, instance, each.ids[2], value) for each, value in values.items()])
    except Refusal:
        found.delete(instance)
        raise
    return path / instance


def _writable(tree: ObjectTree, found: Lwm2mObject, path: Path, value: Content, *, partial: bool) -> Write:
    """Return the write of a value that may be written, or raise Refusal."""
    _, instance, resource = path.ids
    known = found.definition(resource)
    if known is None:
        raise Refusal(codes.NOT_FOUND, f"there is no {path}")
    if "W" not in known.operations:
        raise Refusal(codes.METHOD_NOT_ALLOWED, f"{path} ({known.name}) cannot be written")
    _shaped(path, known, value)
    before = found.read(instance, resource) if partial and tree.exists(path) else None
    if isinstance(value, dict) and isinstance(before, dict):
        value = before | value
        _shaped(path, known, value)
    found.check(instance, resource, value)
    return found, instance, resource, value


def _shaped(path: Path, known: ResourceDefinition, value: Content) -> None:
    if known.multiple != isinstance(value, dict):
        raise Refusal(codes.BAD_REQUEST, f"{path} has {'instances' if known.multiple else 'one value'}")
    if isinstance(value, dict) and (len(value) > MOST_INSTANCES or max(value, default=0) > MAX_ID):
        raise Refusal(codes.BAD_REQUEST, f"{path} has room for {MOST_INSTANCES} instances")


def _commit(writes: list[Write]) -> None:
    for found, instance, resource, value in writes:
        found.write(instance, resource, value)
