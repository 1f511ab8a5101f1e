"""Firmware updates: manifests, headers, download, candidate slot, bootloader, flash layouts."""
