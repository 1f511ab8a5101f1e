"""SUIT envelopes: the drafts' own example, round trips, and all that a board refuses, with the result it gives."""

from __future__ import annotations

import hashlib
import random
from collections.abc import Callable, Mapping
from dataclasses import replace
from typing import Any

import cbor2
import pytest
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ec
from hypothesis import given, settings
from hypothesis import strategies as st

from pdmlab.errors import ConfigError, ManifestRejected
from pdmlab.update import suit
from pdmlab.update.checks import Acceptance
from pdmlab.update.manifest import Manifest, PayloadFormat, PayloadMetadata
from pdmlab.update.results import FotaResult
from pdmlab.update.suit import cbor
from pdmlab.update.suit.envelope import seal
from pdmlab.update.suit.manifest import SuitManifest, encode_steps
from pdmlab.update.suit.numbers import REPORT_ALL, Command, Key, Parameter, Text
from pdmlab.update.suit.processing import START, UPDATE
from pdmlab.update.version import Version

# Example 0 of draft-ietf-suit-manifest (appendix B.1), with its signature, and the key of appendix B.
EXAMPLE = bytes.fromhex(
    "d86ba2025873825824822f58206658ea560262696dd1f13b782239a064da7c6c5cbaf52fded428a6fc83c7e5af584ad28443a10126a0f6"
    "5840408d0816f9b510749bf6a51b066951e08a4438f849eb092a1ac768eed9de696c1b1dd35d82ef149e6a73a61976ad2cfe78444b8064"
    "293350a122f332cb49f0da035871a50101020003585fa202818141000458568614a40150fa6b4a53d5ad5fdfbe9de663e4d41ffe025014"
    "92af1425695e48bf429b2d51f2ab45035824822f582000112233445566778899aabbccddeeff0123456789abcdeffedcba987654321"
    "00e1987d0010f020f074382030f0943821702"
)
EXAMPLE_KEY = serialization.load_pem_public_key(
    b"-----BEGIN PUBLIC KEY-----\n"
    b"MFkwEwYHKoZIzj0CAQYIKoZIzj0DAQcDQgAEhJaBGq4LqqvSYVcYnuzaJr6qi/Eb\n"
    b"bz/m4rVlnIXbwK07HypLbAmBMcCjbazR14vTgdzfsJwFLbM5kdtzOLSolg==\n"
    b"-----END PUBLIC KEY-----\n"
)
EXAMPLE_INSTALL = bytes.fromhex("cfa90c5c58595e7f5119a72f803fd0370b3e6abbec6315cd38f63135281bc498")
"""Digest of the severed install sequence in example 2 (appendix B.3)."""

KEY = ec.derive_private_key(7, ec.SECP256R1())
OTHER = ec.derive_private_key(8, ec.SECP256R1())
VENDOR, CLASS = bytes(range(16)), bytes(range(16, 32))
IMAGE = b"an image " * 200
MADE = suit.for_image(IMAGE, version="1.2.4", uri="coap://127.0.0.1/fw", vendor_id=VENDOR, class_id=CLASS)
BOARD = Acceptance(KEY.public_key(), VENDOR, CLASS, {"MAIN": Version(1, 2, 3)}, storage_size=1 << 20)


def result_of(data: bytes, board: Acceptance = BOARD) -> FotaResult:
    with pytest.raises(ManifestRejected) as caught:
        suit.accept(data, board)
    return FotaResult(caught.value.result)


def test_the_drafts_example_is_read_and_its_signature_holds() -> None:
    assert isinstance(EXAMPLE_KEY, ec.EllipticCurvePublicKey)
    envelope = suit.Envelope.parse(EXAMPLE, EXAMPLE_KEY)
    manifest = envelope.manifest
    assert (manifest.sequence_number, manifest.components) == (0, ((b"\0",),))
    assert manifest.shared[0][1][Parameter.IMAGE_SIZE] == 34768
    assert manifest.sequences == {Key.VALIDATE: ((3, 15),), Key.INVOKE: ((23, 2),)}
    assert manifest.encode() == envelope.encoded
    with pytest.raises(ManifestRejected, match="23"):
        envelope.verify(KEY.public_key())


def test_the_digest_of_a_severed_member_is_the_drafts() -> None:
    steps = (
        (Command.OVERRIDE_PARAMETERS, {21: "http://example.com/very/long/path/to/file/file.bin"}),
        (Command.FETCH, 2),
        (Command.IMAGE_MATCH, 15),
    )
    assert cbor.wrapped_digest(encode_steps(steps)) == EXAMPLE_INSTALL


def severed(keep: bool) -> bytes:
    """Sign a manifest whose install sequence is severed; keep: whether it comes along in the envelope."""
    fields = cbor2.loads(MADE.encode())
    install = fields[Key.INSTALL]
    fields[int(Key.INSTALL)] = [-16, cbor.wrapped_digest(install)]

    class Encoded(SuitManifest):
        def encode(self) -> bytes:
            return cbor.encode(fields)

    envelope = cbor2.loads(seal(Encoded(**vars(MADE)), KEY))
    return tagged({**envelope.value, int(Key.INSTALL): install} if keep else envelope.value)


def tagged(members: Mapping[Any, Any]) -> bytes:
    return cbor2.dumps(cbor2.CBORTag(107, dict(members)))


def test_a_severed_install_sequence_is_put_back() -> None:
    assert suit.Envelope.parse(severed(True), KEY.public_key()).manifest == MADE
    assert suit.accept(severed(True), BOARD).payload_digest == hashlib.sha256(IMAGE).digest()
    assert result_of(severed(False)) is FotaResult.MANIFEST_MALFORMED  # there is nothing to fetch


def test_a_severed_member_that_was_not_signed_is_refused() -> None:
    envelope = cbor2.loads(severed(True))
    other = tagged({**envelope.value, int(Key.INSTALL): encode_steps([(Command.FETCH, 2)])})
    assert result_of(other) is FotaResult.MANIFEST_MALFORMED


def test_what_is_accepted_says_what_to_fetch() -> None:
    accepted = suit.accept(MADE.sign(KEY), BOARD)
    assert (accepted.uri, accepted.payload_size, accepted.version) == ("coap://127.0.0.1/fw", len(IMAGE), "1.2.4")
    assert accepted.payload_digest == hashlib.sha256(IMAGE).digest()
    assert accepted.component == "MAIN"


@settings(deadline=None)
@given(
    version=st.tuples(*[st.integers(0, 999)] * 3),
    uri=st.text(min_size=1, max_size=60),
    size=st.integers(1, 0xFFFF_FFFF),
    component=st.text(st.characters(min_codepoint=33, max_codepoint=126), min_size=1, max_size=8),
)
def test_manifests_come_back_as_they_were(version: tuple[int, int, int], uri: str, size: int, component: str) -> None:
    made = suit.for_image(
        b"", version=str(Version(*version)), uri=uri, vendor_id=VENDOR, class_id=CLASS, component=component
    )
    parameters = {**made.shared[0][1], int(Parameter.IMAGE_SIZE): size}
    made = replace(made, shared=((int(Command.OVERRIDE_PARAMETERS), parameters), *made.shared[1:]))
    assert suit.Envelope.parse(made.sign(KEY), KEY.public_key()).manifest == made


def with_parameters(**changed: object) -> SuitManifest:
    parameters = dict(MADE.shared[0][1])
    for name, value in changed.items():
        parameters[int(Parameter[name])] = value
        if value is None:
            del parameters[int(Parameter[name])]
    return replace(MADE, shared=((int(Command.OVERRIDE_PARAMETERS), parameters), *MADE.shared[1:]))


def installing(*steps: tuple[int, Any]) -> SuitManifest:
    return replace(MADE, sequences={**MADE.sequences, int(Key.INSTALL): steps})


def of_version(version: str) -> SuitManifest:
    return suit.for_image(IMAGE, version=version, uri="coap://127.0.0.1/fw", vendor_id=VENDOR, class_id=CLASS)


URI = (int(Command.OVERRIDE_PARAMETERS), {int(Parameter.URI): "coap://127.0.0.1/fw"})
FETCH, MATCH = (int(Command.FETCH), 2), (int(Command.IMAGE_MATCH), 15)

REFUSED: dict[str, tuple[SuitManifest, FotaResult]] = {
    "another vendor": (with_parameters(VENDOR_IDENTIFIER=bytes(16)), FotaResult.VENDOR_MISMATCH),
    "another class": (with_parameters(CLASS_IDENTIFIER=bytes(16)), FotaResult.CLASS_MISMATCH),
    "another component": (replace(MADE, components=((b"LAMP",),), text={}), FotaResult.UNKNOWN_COMPONENT),
    "an older version": (of_version("1.2.2"), FotaResult.VERSION_TOO_OLD),
    "the same version": (of_version("1.2.3"), FotaResult.VERSION_TOO_OLD),
    "no version": (replace(MADE, sequence_number=5, text={}), FotaResult.MANIFEST_MALFORMED),
    "a large image": (with_parameters(IMAGE_SIZE=2 << 20), FotaResult.NO_STORAGE),
    "no size": (with_parameters(IMAGE_SIZE=None), FotaResult.MANIFEST_MALFORMED),
    "no digest": (with_parameters(IMAGE_DIGEST=None), FotaResult.MANIFEST_MALFORMED),
    "no vendor": (with_parameters(VENDOR_IDENTIFIER=None), FotaResult.MANIFEST_MALFORMED),
    "no URI": (installing(FETCH, MATCH), FotaResult.BAD_URI),
    "an empty URI": (installing((20, {21: ""}), FETCH, MATCH), FotaResult.BAD_URI),
    "a long URI": (installing((20, {21: "x" * 256}), FETCH, MATCH), FotaResult.MANIFEST_MALFORMED),
    "no image match": (installing(URI, FETCH), FotaResult.MANIFEST_MALFORMED),
    "nothing fetched": (installing(), FotaResult.MANIFEST_MALFORMED),
    "another digest matched": (
        installing(URI, FETCH, (20, {3: cbor.encode([-16, bytes(32)])}), MATCH), FotaResult.PAYLOAD_CORRUPTED,
    ),
    "another digest algorithm": (
        with_parameters(IMAGE_DIGEST=cbor.encode([-44, bytes(64)])), FotaResult.MANIFEST_MALFORMED,
    ),
    "an unknown command": (installing(URI, (99, 0), FETCH, MATCH), FotaResult.MANIFEST_MALFORMED),
    "an unknown parameter": (installing((20, {99: 0}), URI, FETCH, MATCH), FotaResult.MANIFEST_MALFORMED),
    "a copy": (installing((20, {22: 0}), (22, 2)), FotaResult.MANIFEST_MALFORMED),
    "a write": (installing((20, {18: b"x"}), (18, 2)), FotaResult.MANIFEST_MALFORMED),
    "an abort": (installing((14, 15)), FotaResult.INSTALL_REFUSED),
    "an endless loop": (
        installing(*[(32, encode_steps([(32, encode_steps([(12, 0)] * 90))] * 12))] * 2),
        FotaResult.MANIFEST_MALFORMED,
    ),
    "a component out of range": (installing((12, 1), URI, FETCH, MATCH), FotaResult.MANIFEST_MALFORMED),
    "no components": (replace(MADE, components=(), text={}), FotaResult.MANIFEST_MALFORMED),
}  # fmt: skip


@pytest.mark.parametrize("case", REFUSED)
def test_a_board_refuses(case: str) -> None:
    manifest, result = REFUSED[case]
    assert result_of(manifest.sign(KEY)) is result


def test_nobody_elses_signature_counts() -> None:
    assert result_of(MADE.sign(OTHER)) is FotaResult.MANIFEST_SIGNATURE


def rewrapped(change: Callable[[list[Any]], object]) -> bytes:
    """Change the wrapper of a good envelope: [digest, COSE_Sign1 block …]."""
    envelope = cbor2.loads(MADE.sign(KEY))
    wrapper = cbor2.loads(envelope.value[2])
    change(wrapper)
    return tagged({**envelope.value, 2: cbor2.dumps(wrapper)})


def block(wrapper: list[Any], at: int, value: object) -> None:
    inner = cbor2.loads(wrapper[1])
    fields = list(inner.value)
    fields[at] = value
    wrapper[1] = cbor2.dumps(cbor2.CBORTag(18, fields))


def test_a_wrapper_without_a_good_signature_is_refused() -> None:
    signature = FotaResult.MANIFEST_SIGNATURE
    assert result_of(rewrapped(lambda wrapper: wrapper.pop())) is signature
    assert result_of(rewrapped(lambda wrapper: block(wrapper, 3, bytes(64)))) is signature
    assert result_of(rewrapped(lambda wrapper: block(wrapper, 3, bytes(63)))) is signature
    assert result_of(rewrapped(lambda wrapper: block(wrapper, 2, b"payload"))) is signature
    assert result_of(rewrapped(lambda wrapper: block(wrapper, 0, cbor2.dumps({1: -8})))) is signature
    assert result_of(rewrapped(lambda wrapper: wrapper.__setitem__(1, cbor2.dumps(5)))) is signature
    assert result_of(rewrapped(lambda wrapper: wrapper.__setitem__(0, cbor.digest_of(b"other")))) is signature


def test_one_good_signature_among_several_is_enough() -> None:
    foreign = cbor2.loads(cbor2.loads(MADE.sign(OTHER)).value[2])[1]
    assert suit.accept(rewrapped(lambda wrapper: wrapper.insert(1, foreign)), BOARD).version == "1.2.4"


def test_a_payload_may_travel_in_the_envelope() -> None:
    made = suit.for_image(IMAGE, version="2.0.0", uri="#firmware", vendor_id=VENDOR, class_id=CLASS)
    data = made.sign(KEY, {"#firmware": IMAGE})
    assert suit.accept(data, BOARD).uri == "#firmware"
    assert suit.Envelope.parse(data).payloads == {"#firmware": IMAGE}
    assert result_of(made.sign(KEY, {"#firmware": IMAGE[::-1]})) is FotaResult.PAYLOAD_CORRUPTED
    with pytest.raises(ConfigError, match="begins with #"):
        made.sign(KEY, {"firmware": IMAGE})


def test_try_each_takes_the_first_alternative_that_holds() -> None:
    """A manifest that has an alternative for boards that run the image already: nothing is fetched then."""
    elsewhere = encode_steps([(20, {2: bytes(16)}), (2, 15)])
    here = encode_steps([(20, {2: CLASS, 21: "coap://127.0.0.1/here"}), (2, 15)])
    chosen = installing((int(Command.TRY_EACH), [elsewhere, here]), FETCH, MATCH)
    assert suit.accept(chosen.sign(KEY), BOARD).uri == "coap://127.0.0.1/here"
    neither = installing((int(Command.TRY_EACH), [elsewhere, elsewhere]), FETCH, MATCH)
    assert result_of(neither.sign(KEY)) is FotaResult.CLASS_MISMATCH
    optional = installing(URI, (int(Command.TRY_EACH), [elsewhere, None]), (20, {2: CLASS}), FETCH, MATCH)
    assert suit.accept(optional.sign(KEY), BOARD).version == "1.2.4"


def test_soft_failure_ends_only_its_own_sequence() -> None:
    tolerant = encode_steps([(20, {13: True, 2: bytes(16)}), (2, 15), (14, 15)])
    made = installing(URI, (int(Command.RUN_SEQUENCE), tolerant), FETCH, MATCH)
    assert suit.accept(made.sign(KEY), BOARD).version == "1.2.4"
    strict = encode_steps([(20, {2: bytes(16)}), (2, 15)])
    assert result_of(installing(URI, (32, strict), FETCH, MATCH).sign(KEY)) is FotaResult.CLASS_MISMATCH


class Recorder:
    """A device that notes what it is told."""

    vendor_id, class_id, device_id = VENDOR, CLASS, bytes(16)

    def __init__(self) -> None:
        self.told: list[str] = []

    def has(self, component: tuple[bytes, ...]) -> bool:
        return True

    def fetch(self, component: tuple[bytes, ...], uri: str, size: int | None, digest: bytes | None) -> None:
        self.told.append(f"fetch {uri}")

    def copy(self, component: tuple[bytes, ...], source: tuple[bytes, ...]) -> None:
        self.told.append(f"copy {source[0].decode()} to {component[0].decode()}")

    def write(self, component: tuple[bytes, ...], content: bytes) -> None:
        self.told.append(f"write {content.decode()}")

    def matches(self, component: tuple[bytes, ...], digest: bytes, size: int | None) -> bool:
        self.told.append("match")
        return True

    def invoke(self, component: tuple[bytes, ...]) -> None:
        self.told.append(f"invoke {component[0].decode()}")


def test_sequences_run_in_their_order_each_after_the_shared_one() -> None:
    device = Recorder()
    suit.process(MADE, device, UPDATE)
    suit.process(MADE, device, START)
    assert device.told == ["fetch coap://127.0.0.1/fw", "match", "match", "invoke MAIN"]


def test_several_components_have_parameters_of_their_own() -> None:
    digest = cbor.encode([-16, bytes(32)])
    made = SuitManifest(
        1,
        ((b"A",), (b"B",)),
        ((12, True), (20, {1: VENDOR, 24: bytes(16)}), (1, 15), (24, 15)),
        {
            int(Key.PAYLOAD_FETCH): ((12, 0), (20, {21: "a"}), (21, 2)),
            int(Key.INSTALL): ((12, [1]), (20, {22: 0, 3: digest, 18: b"x"}), (22, 2), (18, 2), (3, 15)),
        },
    )
    device = Recorder()
    suit.process(suit.Envelope.parse(made.sign(KEY)).manifest, device)
    assert device.told == ["fetch a", "copy A to B", "write x", "match"]
    wrong = replace(made, sequences={int(Key.INSTALL): ((12, 0), (21, 2))})
    with pytest.raises(ManifestRejected, match="no uri"):
        suit.process(wrong, device)


def v3(**changed: Any) -> Manifest:
    return replace(Manifest.for_image(IMAGE, version="1.2.4", uri="/fw/1", vendor_id=VENDOR, class_id=CLASS), **changed)


def test_a_v3_manifest_says_in_suit_what_it_said_and_names_what_is_lost() -> None:
    whole = v3(priority=3, installed_signature=bytes(64), vendor_data=b"hello")
    converted = suit.convert(whole)
    accepted = suit.accept(converted.sign(KEY), BOARD)
    for name in ("vendor_id", "class_id", "version", "payload_digest", "payload_size", "uri", "component"):
        assert getattr(accepted, name) == getattr(whole, name), name
    assert [lost.split(":")[0] for lost in converted.lost] == [
        "the signature", "the priority 3", "the installed image's signature", "5 B of vendor data",
        "the version 1.2.4 as the rule of what is newer",
    ]  # fmt: skip
    assert len(suit.convert(v3()).lost) == 2
    assert "Does not carry over" in converted._repr_html_()


def test_a_delta_does_not_carry_over() -> None:
    delta = v3(format=PayloadFormat.DELTA, metadata=PayloadMetadata(5, bytes(32), bytes(32)))
    with pytest.raises(ConfigError, match="delta payload has no words"):
        suit.convert(delta)


def test_the_version_is_read_from_the_text_and_else_from_the_sequence_number() -> None:
    assert suit.accept(replace(MADE, text={}).sign(KEY), BOARD).version == "1.2.4"
    spoken = replace(MADE, sequence_number=77, text={(b"MAIN",): {int(Text.VERSION): "3.0.0"}})
    assert suit.accept(spoken.sign(KEY), BOARD).version == "3.0.0"


def test_it_is_shown_in_words() -> None:
    shown = MADE._repr_html_()
    for word in ("SUIT manifest", "vendor identifier = 000102", "coap://127.0.0.1/fw", "image match", "1.2.4"):
        assert word in shown


def test_a_key_on_another_curve_signs_nothing() -> None:
    with pytest.raises(ConfigError, match="secp384r1"):
        MADE.sign(ec.generate_private_key(ec.SECP384R1()))


@pytest.mark.parametrize("seed", range(4))
def test_mutated_envelopes_are_refused_with_a_result(seed: int) -> None:
    """What is not byte for byte what was signed is refused; only what nobody has to sign may change."""
    chance = random.Random(seed)
    good = MADE.sign(KEY)
    for _ in range(400):
        data = bytearray(good)
        for _ in range(chance.choice((1, 1, 2, 8))):
            at = chance.randrange(len(data))
            match chance.randrange(3):
                case 0:
                    data[at] ^= 1 << chance.randrange(8)
                case 1:
                    del data[at : at + chance.randrange(1, 4)]
                case _:
                    data[at:at] = chance.randbytes(chance.randrange(1, 4))
        try:
            accepted = suit.accept(bytes(data), BOARD)
        except ManifestRejected:
            continue
        assert accepted.payload_digest == hashlib.sha256(IMAGE).digest() and accepted.version == "1.2.4"


@pytest.mark.parametrize(
    "data",
    [
        b"", b"\xd8\x6b", b"\xd8\x6b\xa0", b"\xd8\x6b\x9f", b"\xd8\x6b" + b"\x81" * 5000 + b"\x00",
        b"\xd8\x6b\xa1\x03\x5b" + b"\xff" * 8, b"\xd8\x6b\xa2\x02\x40\x03\x40", b"\xd8\x6b\xa1\x03\xc0\x60",
        b"\xd8\x6b\xa1\x02\xd8\x23\x62((", b"\xd8\x6b\xa1\x02\xc4\x82\x1b" + b"\xff" * 8 + b"\x01",
    ],
)  # fmt: skip
def test_what_is_no_envelope_is_refused(data: bytes) -> None:
    assert result_of(data) is FotaResult.MANIFEST_MALFORMED


def test_reporting_policies_are_read_and_do_not_matter() -> None:
    quiet = installing(URI, (int(Command.FETCH), 0), (int(Command.IMAGE_MATCH), 0))
    assert suit.accept(quiet.sign(KEY), BOARD).version == "1.2.4"
    assert REPORT_ALL == 15
