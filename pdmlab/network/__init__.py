"""The network that a board sees: links with figures from their specifications, an in-memory fabric, Mbed's sockets."""
