"""URL schemes that pyserial finds here once this package is in `serial.protocol_handler_packages`."""
