"""The vendor's SDK 2.2.0, unmodified, against a running service: legacy classes and Foundation, area by area."""
