"""A second bspatch, written from the format's page alone: it shares no code and no library with the one it checks."""

from __future__ import annotations


def lz4_block(data: bytes) -> bytes:
    """Unpack one LZ4 block (lz4_Block_format.md): token, literals, offset, match."""
    out = bytearray()
    at = 0
    while at < len(data):
        token = data[at]
        at += 1
        count, at = _length(data, at, token >> 4)
        out += data[at : at + count]
        at += count
        if at == len(data):
            break
        offset = data[at] | data[at + 1] << 8
        at += 2
        count, at = _length(data, at, token & 15)
        for _ in range(count + 4):
            out.append(out[-offset])
    return bytes(out)


def _length(data: bytes, at: int, nibble: int) -> tuple[int, int]:
    total = nibble
    while nibble == 15:
        total, at = total + data[at], at + 1
        if data[at - 1] != 255:
            break
    return total, at


def bspatch(patch: bytes, old: bytes) -> bytes:
    """Apply a patch of the form PELION/BSDIFF001."""
    assert patch[:16] == b"PELION/BSDIFF001"
    size, plain, packed = (int.from_bytes(patch[at : at + 8], "little") for at in (16, 24, 32))
    at, here, new = 40, 0, bytearray()

    def varint() -> int:
        nonlocal at
        value = shift = 0
        while True:
            byte = patch[at]
            at += 1
            value |= (byte & 127) << shift
            shift += 7
            if byte < 128:
                return value

    def frames(length: int) -> bytes:
        nonlocal at
        got = b""
        while len(got) < length:
            count = varint()
            assert 0 < count <= packed <= plain
            frame = lz4_block(patch[at : at + count])
            assert 0 < len(frame) <= plain
            got += frame
            at += count
        assert len(got) == length
        return got

    while len(new) < size:
        changed, fresh, seek = varint(), varint(), varint()
        added = frames(changed)
        assert here >= 0 and here + changed <= len(old)
        new += bytes((a + b) & 255 for a, b in zip(added, old[here : here + changed], strict=True))
        new += frames(fresh)
        here += changed + (-(seek // 2) if seek & 1 else seek // 2)
    assert at == len(patch)
    return bytes(new)
