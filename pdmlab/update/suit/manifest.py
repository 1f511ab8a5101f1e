"""What a SUIT manifest says: components, and sequences of commands over them.

A manifest made here has one component and the sequences that a board needs: `for_image`.
"""

from __future__ import annotations

import hashlib
import html
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from cryptography.hazmat.primitives.asymmetric import ec

from pdmlab.errors import ConfigError
from pdmlab.update.suit import cbor
from pdmlab.update.suit.numbers import (
    MANIFEST_VERSION,
    REPORT_ALL,
    REPORT_FAILURE,
    Command,
    Common,
    Key,
    Parameter,
    Text,
)  # fmt: skip
from pdmlab.update.version import Version

ComponentId = tuple[bytes, ...]
Step = tuple[int, Any]
"""A command's number and its argument: a reporting policy, parameters, an index, sequences."""
SEQUENCES = (
    Key.VALIDATE, Key.LOAD, Key.INVOKE, Key.DEPENDENCY_RESOLUTION, Key.PAYLOAD_FETCH, Key.CANDIDATE_VERIFICATION,
    Key.INSTALL,
)  # fmt: skip
SEVERABLE = (
    Key.DEPENDENCY_RESOLUTION, Key.PAYLOAD_FETCH, Key.CANDIDATE_VERIFICATION, Key.INSTALL, Key.TEXT,
)  # fmt: skip
MAX_COMPONENTS, MAX_STEPS, MAX_URI = 8, 100, 255


@dataclass(frozen=True)
class SuitManifest:
    """A manifest's elements.

    sequence_number  grows with each manifest; devices take no lower one than they have had
    components       the ids of what commands are about, by their index
    shared           commands that run before every other sequence: parameters, and whom it is for
    sequences        commands by `Key`: validate, load, invoke, payload fetch, install …
    text             what people read of each component, by its id and `Text`
    """

    sequence_number: int
    components: tuple[ComponentId, ...]
    shared: tuple[Step, ...]
    sequences: Mapping[int, tuple[Step, ...]]
    text: Mapping[ComponentId, Mapping[int, str]] = field(default_factory=dict)
    reference_uri: str | None = None

    @property
    def version(self) -> str | None:
        """The version that the text gives the first component, or that the sequence number is the number of."""
        said = self.text.get(self.components[0], {}).get(Text.VERSION) if self.components else None
        if said is not None:
            return said
        try:
            return str(Version.from_number(self.sequence_number))
        except ConfigError:
            return None

    def sign(self, key: ec.EllipticCurvePrivateKey, payloads: Mapping[str, bytes] | None = None) -> bytes:
        """Return the envelope signed with a P-256 key (ES256); payloads travel in it, by URIs that begin with "#"."""
        from pdmlab.update.suit.envelope import seal

        return seal(self, key, payloads)

    def encode(self) -> bytes:
        """Return the manifest's bytes, deterministic."""
        common: dict[int, Any] = {
            int(Common.COMPONENTS): [list(each) for each in self.components],
            int(Common.SHARED_SEQUENCE): encode_steps(self.shared),
        }
        fields: dict[int, Any] = {
            int(Key.VERSION): MANIFEST_VERSION,
            int(Key.SEQUENCE_NUMBER): self.sequence_number,
            int(Key.COMMON): cbor.encode(common),
        }
        if self.reference_uri is not None:
            fields[int(Key.REFERENCE_URI)] = self.reference_uri
        for key, steps in self.sequences.items():
            fields[int(key)] = encode_steps(steps)
        if self.text:
            # An id is an array, and a map's key here: cbor2 keeps those as tuples.
            about = {part: {int(key): said for key, said in words.items()} for part, words in self.text.items()}
            fields[int(Key.TEXT)] = cbor.encode({"en": about})
        return cbor.encode(fields)

    @classmethod
    def decode(cls, data: bytes, severed: Mapping[int, Any] | None = None) -> SuitManifest:
        """Read a manifest's bytes; severed members are put back where the manifest has their digest.

        Raises:
            ManifestRejected: they are no manifest that boards here know (22).
        """
        fields = cbor.a_map(cbor.decode(data, "the manifest"), "the manifest")
        if odd := [key for key in fields if not isinstance(key, int) or key not in set(Key)]:
            raise cbor.malformed(f"the manifest has elements {[str(each)[:20] for each in odd[:5]]} that are not known")
        if fields.get(Key.VERSION) != MANIFEST_VERSION:
            raise cbor.malformed(f"manifest version {str(fields.get(Key.VERSION))[:20]}, known is {MANIFEST_VERSION}")
        common = cbor.a_map(
            cbor.decode(cbor.some_bytes(fields.get(Key.COMMON), "suit-common"), "suit-common"), "suit-common"
        )
        if set(common) - {Common.COMPONENTS, Common.SHARED_SEQUENCE}:
            raise cbor.malformed("suit-common has dependencies, or more, that boards here do not take")
        for key in set(severed or {}) - set(fields):
            raise cbor.malformed(f"the envelope has member {key} that its manifest does not name")
        whole = {key: _put_back(fields[key], (severed or {}).get(key), key) for key in SEVERABLE if key in fields}
        fields = {**fields, **whole}
        reference = fields.get(Key.REFERENCE_URI)
        return cls(
            cbor.a_number(fields.get(Key.SEQUENCE_NUMBER), "the sequence number"),
            _components(common.get(Common.COMPONENTS)),
            decode_steps(common[Common.SHARED_SEQUENCE], "the shared sequence")
            if Common.SHARED_SEQUENCE in common
            else (),
            {key: decode_steps(fields[key], Key(key).name.lower()) for key in SEQUENCES if fields.get(key) is not None},
            _text(fields[Key.TEXT]) if fields.get(Key.TEXT) is not None else {},
            None if reference is None else cbor.some_text(reference, "the reference URI", most=MAX_URI),
        )

    def _repr_html_(self) -> str:
        from pdmlab.update.suit.describing import lines

        body = "".join(
            f"<tr style='text-align:left'><th>{html.escape(where)}</th><td>{html.escape(what)}</td></tr>"
            for where, what in lines(self)
        )
        return f"<table><caption>SUIT manifest {self.sequence_number}</caption>{body}</table>"


def for_image(
    image: bytes,
    *,
    version: str,
    uri: str,
    vendor_id: bytes,
    class_id: bytes,
    component: str = "MAIN",
    sequence_number: int | None = None,
) -> SuitManifest:
    """Describe an image that is fetched from a URI, matched against its SHA-256, and started.

    The sequence number is the version's own number unless another is given.
    """
    return of_parts(
        hashlib.sha256(image).digest(), len(image),
        version=version, uri=uri, vendor_id=vendor_id, class_id=class_id, component=component,
        sequence_number=sequence_number,
    )  # fmt: skip


def of_parts(
    digest: bytes,
    size: int,
    *,
    version: str,
    uri: str,
    vendor_id: bytes,
    class_id: bytes,
    component: str = "MAIN",
    sequence_number: int | None = None,
) -> SuitManifest:
    """Describe an image by its SHA-256 and size (B); see for_image."""
    for name, value in (("vendor", vendor_id), ("class", class_id)):
        if len(value) != 16:
            raise ConfigError(f"a {name} id has 16 bytes, not {len(value)}")
    if len(uri.encode()) > MAX_URI:
        raise ConfigError(f"a URI of {len(uri.encode())} B: boards take {MAX_URI}")
    part = (component.encode(),)
    parameters = {
        int(Parameter.VENDOR_IDENTIFIER): vendor_id,
        int(Parameter.CLASS_IDENTIFIER): class_id,
        int(Parameter.IMAGE_DIGEST): cbor.encode([-16, digest]),
        int(Parameter.IMAGE_SIZE): size,
    }
    matches = (int(Command.IMAGE_MATCH), REPORT_ALL)
    return SuitManifest(
        Version.parse(version).number if sequence_number is None else sequence_number,
        (part,),
        (
            (int(Command.OVERRIDE_PARAMETERS), parameters),
            (int(Command.VENDOR_IDENTIFIER), REPORT_ALL),
            (int(Command.CLASS_IDENTIFIER), REPORT_ALL),
        ),
        {
            int(Key.VALIDATE): (matches,),
            int(Key.INVOKE): ((int(Command.INVOKE), REPORT_FAILURE),),
            int(Key.INSTALL): (
                (int(Command.OVERRIDE_PARAMETERS), {int(Parameter.URI): uri}),
                (int(Command.FETCH), REPORT_FAILURE),
                matches,
            ),
        },
        {part: {int(Text.VERSION): version}},
    )


def encode_steps(steps: Sequence[Step]) -> bytes:
    """Encode commands: numbers and arguments in turn, in one array."""
    return cbor.encode([each for step in steps for each in step])


def decode_steps(data: Any, what: str) -> tuple[Step, ...]:
    """Read an encoded sequence of commands."""
    flat = cbor.an_array(cbor.decode(cbor.some_bytes(data, what), what), what)
    if len(flat) % 2 or len(flat) // 2 > MAX_STEPS:
        raise cbor.malformed(f"{what} has {len(flat)} items: commands come with an argument each, {MAX_STEPS} at most")
    numbers = [cbor.a_number(each, f"a command in {what}") for each in flat[::2]]
    return tuple(zip(numbers, flat[1::2], strict=True))


def _put_back(value: Any, severed: Any, key: int) -> Any:
    """Return a severable element's bytes: from the manifest, or from the envelope if its digest is right."""
    if isinstance(value, bytes):
        return value
    wanted = cbor.read_digest(cbor.encode(value), "a severed member's digest")
    if severed is None:
        return None  # what was severed and left away may be done without, such as text
    if wanted != cbor.wrapped_digest(cbor.some_bytes(severed, "a severed member")):
        raise cbor.malformed(f"member {key} of the envelope is not the one that was signed")
    return severed


def _components(value: Any) -> tuple[ComponentId, ...]:
    listed = cbor.an_array(value, "the components")
    if not 1 <= len(listed) <= MAX_COMPONENTS:
        raise cbor.malformed(f"{len(listed)} components: boards take 1 to {MAX_COMPONENTS}")
    return tuple(
        tuple(cbor.some_bytes(part, "a component id") for part in cbor.an_array(each, "a component id"))
        for each in listed
    )


def _text(data: Any) -> dict[ComponentId, dict[int, str]]:
    """Read what the text says of components, in the first language that has them; old drafts have no languages."""
    said_in = cbor.a_map(cbor.decode(cbor.some_bytes(data, "the text"), "the text"), "the text")
    for words in [each for language, each in said_in.items() if isinstance(language, str)] or [said_in]:
        about = {
            tuple(key): {
                int(label): cbor.some_text(said, "the text", most=1000)
                for label, said in cbor.a_map(value, "the text").items()
                if isinstance(label, int)
            }
            for key, value in cbor.a_map(words, "the text").items()
            if isinstance(key, tuple | list) and all(isinstance(part, bytes) for part in key)
        }
        if about:
            return about
    return {}
