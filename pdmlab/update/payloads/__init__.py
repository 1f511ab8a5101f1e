"""Payloads: how the bytes that a device fetches become the image that it installs."""
