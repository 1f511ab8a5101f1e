"""Firmware update: manifests, firmware headers, candidate slots, bootloader and the device's download."""
