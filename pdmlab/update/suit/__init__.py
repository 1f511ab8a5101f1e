"""SUIT manifests (draft-ietf-suit-manifest, COSE signatures): the open successor of the vendor's update manifests.

data = suit.for_image(image, version="1.2.4", uri="coap://…/fw", vendor_id=v, class_id=c).sign(key)
suit.Envelope.parse(data, public_key).manifest
suit.accept(data, device)
suit.convert(signed_v3).lost
"""

from __future__ import annotations

from pdmlab.update.suit.accepting import accept
from pdmlab.update.suit.converting import Converted, convert
from pdmlab.update.suit.envelope import Envelope
from pdmlab.update.suit.manifest import SuitManifest, for_image
from pdmlab.update.suit.members import MARK
from pdmlab.update.suit.package import SuitPackage
from pdmlab.update.suit.processing import Processor, process

__all__ = [
    "MARK",
    "Converted",
    "Envelope",
    "Processor",
    "SuitManifest",
    "SuitPackage",
    "accept",
    "convert",
    "for_image",
    "process",
]
