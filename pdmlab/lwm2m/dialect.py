"""LwM2M for a message log: what payloads mean, whom they are about, and what of them may be shown.

Values are named from the registry. Of the security object and of enrolment nothing is shown but sizes and whom
certificates name.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass

from pdmlab.capture import Body, Who
from pdmlab.errors import Lwm2mError
from pdmlab.lwm2m import content, senml, tlv
from pdmlab.lwm2m.linkformat import Link, parse_links
from pdmlab.lwm2m.paths import Path
from pdmlab.lwm2m.registry import Registry, core_objects
from pdmlab.lwm2m.x509_words import certificate_in_words, chain_of, request_in_words, subject_of

GET, POST, PUT, DELETE = 1, 2, 3, 4
CREATED, BAD_REQUEST = 65, 128
LINK_FORMAT, SENML_JSON, SENML_CBOR = 40, 110, 112
SECURITY, OSCORE = "0", "21"
MANIFEST = ("10252", "0", "1")
_SHOWN = 12  # values of a body that are written out
_IEP = re.compile(r"[?&]iep=([0-9A-Za-z_-]{1,64})")


@dataclass(frozen=True)
class LwM2M:
    """A `pdmlab.capture.Dialect`: give it to a MessageLog."""

    registry: Registry | None = None
    """Names and types; None for the core objects."""

    @property
    def _registry(self) -> Registry:
        return self.registry if self.registry is not None else core_objects()

    # -- words -------------------------------------------------------------------------------------------

    def words(self, body: Body) -> str | None:
        """See Dialect.words."""
        if body.answer is not None and body.answer >= BAD_REQUEST:
            return _text(body.payload)
        first = body.path[0] if body.path else ""
        try:
            if first == "est":
                return _enrolment(body)
            if first.lstrip("0") == "" and first:
                return self._security(body)
            if first == OSCORE or first.lstrip("0") == OSCORE:
                return None
            if body.path == MANIFEST and body.payload[-18:-16] == b"\x81\x10":
                return f"manifest of {len(body.payload) - 18} B, and the key of its payload (kept secret)"
            if body.format == LINK_FORMAT:
                return self._links(parse_links(body.payload))
            if body.format in (content.TLV, content.TLV_OLD):
                return _listed(self._values(tlv.decode(body.payload), _path(body.path)))
            if body.format in (SENML_JSON, SENML_CBOR):
                return _listed(self._records(body.payload, body.format == SENML_CBOR))
            return self._single(body)
        except (Lwm2mError, ValueError):
            return None

    def _single(self, body: Body) -> str | None:
        path = _path(body.path)
        if path is None or path.resource is None or body.request == POST:
            return None
        definition = self._registry.resource(path)
        if definition is None or definition.type is None:
            return None
        if definition.secret:
            return "(kept secret)"
        value = content.decode(body.payload, definition.type, body.format, path)
        if isinstance(value, dict):
            return None
        return f"{definition.name} = {_shown(value)}{_unit(definition.unit)}"

    def _values(self, entries: Iterable[tlv.Entry], path: Path | None) -> Iterator[str]:
        """Yield each value of a TLV body with its path and name; `path` is what was asked for."""
        if path is None:
            raise Lwm2mError("TLV of no LwM2M path")
        ids = path.ids
        for entry in entries:
            if entry.kind == tlv.Kind.OBJECT_INSTANCE:
                yield from self._values(entry.entries, Path.of(ids[0], entry.id))
            elif entry.kind == tlv.Kind.RESOURCE_INSTANCE:
                yield self._value(Path.of(*ids[:3], entry.id), entry.value)
            else:
                # An object's own path comes with bare resources where it has a single instance.
                at = Path.of(ids[0], ids[1] if len(ids) > 1 else 0, entry.id)
                if entry.kind == tlv.Kind.MULTIPLE_RESOURCE:
                    yield from self._values(entry.entries, at)
                else:
                    yield self._value(at, entry.value)

    def _value(self, path: Path, data: bytes) -> str:
        definition = self._registry.resource(path)
        name = f" {definition.name}" if definition is not None else ""
        if definition is not None and definition.secret:
            return f"{path}{name}: {len(data)} B (kept secret)"
        value: content.Value = data
        if definition is not None and definition.type is not None:
            try:
                value = content.from_bytes(data, definition.type)
            except Lwm2mError:
                pass
        return f"{path}{name} = {_shown(value)}{_unit(definition.unit if definition is not None else '')}"

    def _records(self, payload: bytes, binary: bool) -> Iterator[str]:
        for record in senml.read(payload, binary=binary):
            try:
                definition = self._registry.resource(Path.parse(record.name))
            except Lwm2mError:
                definition = None
            name = f" {definition.name}" if definition is not None else ""
            if definition is not None and definition.secret:
                yield f"{record.name}{name} (kept secret)"
            elif record.kind is None or record.value is None:
                yield record.name + name
            else:
                unit = record.unit or (definition.unit if definition is not None else "")
                yield f"{record.name}{name} = {_shown(record.value)}{_unit(unit)}"

    def _links(self, links: list[Link]) -> str:
        """Count the links by object, and say which values and auto-observations come along."""
        objects = Counter(link.path.object for link in links)
        named = []
        for number, count in sorted(objects.items()):
            known = self._registry.objects.get(number)
            named.append(f"/{number}{f' {known.name}' if known is not None else ''} ({count})")
        watched = sum(link.aobs is not None for link in links)
        valued = sum(link.v is not None for link in links)
        more = f", {valued} with values" if valued else ""
        more += f", {watched} observed from now on" if watched else ""
        gone = sum(link.deleted for link in links)
        more += f", {gone} gone" if gone else ""
        return f"{len(links)} links{more}: {', '.join(named)}"

    # -- secrets -----------------------------------------------------------------------------------------

    def _security(self, body: Body) -> str | None:
        """Say what a write to the security object writes: keys as their sizes, certificates as whom they name."""
        if body.answer is not None or body.format not in (content.TLV, content.TLV_OLD):
            return None
        return "; ".join(
            f"/0/{instance}/{entry.id} {self._security_value(instance, entry)}"
            for instance, entry in _security_entries(body)
        )

    def _security_value(self, instance: int, entry: tlv.Entry) -> str:
        definition = self._registry.resource(Path.of(0, instance, entry.id))
        name = definition.name if definition is not None else "?"
        size = f"{len(entry.value)} B"
        if definition is not None and definition.type in ("boolean", "integer"):
            return f"{name} = {_shown(content.from_bytes(entry.value, definition.type))}"
        if entry.id == 0:
            return f"{name} = {_text(entry.value) or size}"
        if entry.id in (3, 4):  # the identity of a PSK is in the place of a certificate
            return f"{name}: {certificate_in_words(entry.value) or f'{size} (kept secret)'}"
        return f"{name}: {size} (kept secret)"

    # -- whom it is about --------------------------------------------------------------------------------

    def who(self, body: Body) -> Who | None:
        """See Dialect.who."""
        first = body.path[0] if body.path else ""
        if first == "rd":
            return _registered(body)
        if first == "bs" and body.answer is None:
            query = _query(body.query)
            # The finish, which the server sends, names the device; what a device brings of an id is only a claim.
            return Who(name=query["ep"]) if "ep" in query else Who(device=query["iep"]) if "iep" in query else None
        if first.lstrip("0") == "" and first and body.answer is None and body.request == PUT:
            return self._provisioned(body)
        if first == "est" and body.answer is not None and body.answer < BAD_REQUEST:
            chain = chain_of(body.payload)
            return self.owner(chain[0]) if chain else None
        return None

    def _provisioned(self, body: Body) -> Who | None:
        """Tell whom a security object is for: its URI has the id, or its certificate has."""
        device = name = ""
        try:
            for _, entry in _security_entries(body):
                if entry.id == 0 and (found := _IEP.search(entry.value.decode(errors="replace"))) is not None:
                    device = found[1]
                elif entry.id == 3 and (owner := self.owner(entry.value)) is not None:
                    device, name = owner.device or device, owner.name
        except Lwm2mError:
            return None
        return Who(device, name) if device or name else None

    def owner(self, certificate: bytes) -> Who | None:
        """See Dialect.owner: CN is the endpoint name, L the device id."""
        subject = subject_of(certificate)
        return None if subject is None else Who(subject.get("L", ""), subject.get("CN", ""))

    def tokens(self, body: Body) -> Mapping[bytes, str]:
        """See Dialect.tokens."""
        if body.path[:1] != ("rd",) or body.request != POST or body.format != LINK_FORMAT:
            return {}
        try:
            links = parse_links(body.payload)
        except Lwm2mError:
            return {}
        return {link.token: str(link.path) for link in links if link.token is not None}


def _registered(body: Body) -> Who | None:
    """Tell who registers: by name as long as it is a claim, by id once the server has said yes."""
    query = _query(body.query)
    name = query.get("ep", "")
    if body.answer is None or body.answer >= BAD_REQUEST:
        return Who(name=name) if name else None
    if len(body.path) > 1:  # an update, or a deregistration, of a place that is there
        return Who(device=body.path[-1], name=name)
    return Who(device=body.location[-1] if body.answer == CREATED and body.location else "", name=name)


def _security_entries(body: Body) -> Iterator[tuple[int, tlv.Entry]]:
    for entry in tlv.decode(body.payload):
        if entry.kind == tlv.Kind.OBJECT_INSTANCE:
            yield from ((entry.id, each) for each in entry.entries)
        else:
            yield int(body.path[1]) if len(body.path) > 1 and body.path[1].isdecimal() else 0, entry


def _enrolment(body: Body) -> str | None:
    if body.answer is None:
        return request_in_words(body.payload)
    chain = chain_of(body.payload)
    if not chain:
        return None
    return f"{len(chain)} certificates: " + "; ".join(
        certificate_in_words(each) or f"{len(each)} B that are no certificate" for each in chain
    )


def _query(query: Iterable[str]) -> dict[str, str]:
    return {name: value for name, _, value in (each.partition("=") for each in query)}


def _path(segments: tuple[str, ...]) -> Path | None:
    try:
        return Path.parse("/" + "/".join(segments))
    except Lwm2mError:
        return None


def _listed(values: Iterable[str]) -> str:
    each = list(values)
    more = f" and {len(each) - _SHOWN} more" if len(each) > _SHOWN else ""
    return ", ".join(each[:_SHOWN]) + more


def _shown(value: content.Value) -> str:
    if isinstance(value, bytes):
        return certificate_in_words(value) or f"{len(value)} B {value[:8].hex()}{'…' if len(value) > 8 else ''}"
    if isinstance(value, str):
        return repr(value[:64]) + ("…" if len(value) > 64 else "")
    return str(value)


def _unit(unit: str) -> str:
    return f" {unit}" if unit else ""


def _text(payload: bytes) -> str | None:
    try:
        return payload.decode()
    except UnicodeDecodeError:
        return None
