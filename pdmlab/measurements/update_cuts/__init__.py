"""Power cuts of a firmware update: a rig of traced media, every cut of a story, and the bootloaders side by side."""
