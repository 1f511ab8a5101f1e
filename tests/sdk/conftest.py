"""What the service answers to the vendor's SDK is held against the vendor's description."""

from tests.vendor.watching import answers_as_the_vendor_has_them, watched

__all__ = ["answers_as_the_vendor_has_them", "watched"]
