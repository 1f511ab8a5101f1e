"""CoAP (RFC 7252, 7641, 7959): one endpoint for both roles, above aiocoap's messages."""
