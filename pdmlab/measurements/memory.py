"""What RAM a file system takes on a 32-bit board, from the sizes of its library's structures.

littlefs: `lfs_init` allocates two caches and the lookahead buffer, `lfs_file_opencfg` a cache for each open file
(lfs.c); the structures are those of Mbed OS 6's lfs2.h with pointers of 4 B. FatFs: ff.h of Mbed OS 6 (R0.14b) as
fat_chan's mbed_lib.json sets it up: one sector buffer for everything (`ff_fs_tiny`), on the heap (`ff_fs_heapbuf`),
and a buffer of long names on the heap while a path is followed (`ff_use_lfn` 3). What the heap adds to each block, the
file objects of Mbed itself, mutexes and stacks are not in it.
"""

from __future__ import annotations

from collections.abc import Mapping

LFS_T, LFS_CONFIG, LFS_FILE = 120, 72, 84
"""lfs2_t, lfs2_config and lfs2_file_t (B)."""
FATFS, FIL = 64, 40
"""FATFS and FIL without their buffers (B)."""
LONG_NAME = (255 + 1) * 2
"""FatFs' buffer for a long name: 255 UTF-16 units and an end (B)."""


def littlefs_ram(cache_size: int, lookahead_size: int, files: int) -> Mapping[str, int]:
    """Return what littlefs takes with so many files open, by purpose (B)."""
    return {
        "caches": 2 * cache_size,
        "open files": files * (cache_size + LFS_FILE),
        "lookahead": lookahead_size,
        "state": LFS_T + LFS_CONFIG,
    }


def fat_ram(sector: int, files: int) -> Mapping[str, int]:
    """Return what FatFs takes with so many files open, by purpose (B)."""
    return {"caches": sector, "open files": files * FIL, "names": LONG_NAME, "state": FATFS}
