"""LwM2M data: paths, objects, content formats and notification attributes."""
