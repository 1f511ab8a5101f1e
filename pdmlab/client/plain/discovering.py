"""Discover: what there is below a path, as links with attributes."""

from __future__ import annotations

from dataclasses import replace

from pdmlab.client.plain.attributes import AttributeTable
from pdmlab.client.plain.objects import Lwm2mObject
from pdmlab.client.plain.tree import SECURITY, SERVER, ObjectTree, object_link
from pdmlab.lwm2m.attributes import NotificationAttributes
from pdmlab.lwm2m.linkformat import Link, LinkList
from pdmlab.lwm2m.paths import Path

_URI, _BOOTSTRAP, _SERVER_ID = 0, 1, 10  # of /0
_SHORT_ID = 0  # of /1


def discovered(tree: ObjectTree, path: Path, attributes: AttributeTable) -> list[Link]:
    """Return a path and what lies below it; a resource says what it inherits too (LwM2M 1.1 core, 6.3.2)."""
    found = tree.require(path)
    if path.resource is not None:
        assert path.instance is not None
        links = _resource(found, path.instance, path.resource, attributes, inherited=True)
        return [each for each in links if path.contains(each.path)]
    links = []
    if path.instance is None:
        links.append(_with(object_link(found), attributes.own(path)))
    for instance in found.instances() if path.instance is None else [path.instance]:
        here = Path.of(path.object, instance)
        links.append(_with(Link(here), attributes.own(here)))
        for id in found.resources(instance):
            # Of an object, its resources are named only; their attributes are an instance's to tell.
            table = attributes if path.instance is not None else AttributeTable()
            links += _resource(found, instance, id, table, inherited=False)[:1]
    return links


def _resource(found: Lwm2mObject, instance: int, id: int, attributes: AttributeTable, *, inherited: bool) -> list[Link]:
    """Return the link of a resource, and those of its instances."""
    path, known = Path.of(found.id, instance, id), found.resources(instance)[id]
    value = found.read(instance, id) if known.multiple and known.type is not None else None
    those = attributes.effective if inherited else attributes.own
    link = Link(path) if not isinstance(value, dict) else Link(path, others={"dim": str(len(value))})
    instances = sorted(value) if isinstance(value, dict) else []
    return [_with(link, those(path)), *(_with(Link(path / each), those(path / each)) for each in instances)]


def _with(link: Link, attributes: NotificationAttributes) -> Link:
    return replace(link, others=link.others | {name: f"{value:.12g}" for name, value in attributes.items()})


def bootstrap_discovered(tree: ObjectTree, path: Path | None, version: str) -> LinkList:
    """Return what a bootstrap server sees: objects and instances, with the servers that they belong to.

    Raises:
        Refusal: there is no such object.
    """
    links: list[Link] = []
    for found in tree:
        if path is not None and found.id != path.object:
            continue
        instances = list(found.instances())
        if found.version != "1.0" or not instances:
            links.append(object_link(found))
        links += [Link(Path.of(found.id, each), others=_belonging(found, each)) for each in instances]
    return LinkList(links, version=version)


def _belonging(found: Lwm2mObject, instance: int) -> dict[str, str | None]:
    """Return the short server id and, of a security instance, the URI of the server that it is for."""
    if found.id not in (SECURITY, SERVER):
        return {}
    there = found.resources(instance)
    if found.id == SERVER:
        return {"ssid": str(found.read(instance, _SHORT_ID))} if _SHORT_ID in there else {}
    said: dict[str, str | None] = {}
    if _SERVER_ID in there and not (_BOOTSTRAP in there and found.read(instance, _BOOTSTRAP)):
        said["ssid"] = str(found.read(instance, _SERVER_ID))
    if _URI in there:
        said["uri"] = str(found.read(instance, _URI))
    return said
