"""CoAP: one endpoint for both roles, above aiocoap's messages and codec."""
