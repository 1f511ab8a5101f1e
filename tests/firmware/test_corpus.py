"""The corpus is the published one."""

from __future__ import annotations

import hashlib

from pdmlab.firmware.corpus import SHA256, SIZE, corpus


def test_the_corpus_is_128_kib_of_text_with_the_published_hash() -> None:
    text = corpus()
    assert len(text) == SIZE == 128 * 1024
    assert hashlib.sha256(text).hexdigest() == SHA256
    assert max(map(len, text.decode("ascii").splitlines())) <= 78
    assert b"\r" not in text and text.endswith(b"\n")
