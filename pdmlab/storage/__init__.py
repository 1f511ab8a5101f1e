"""Media, block devices, file systems and stores."""
