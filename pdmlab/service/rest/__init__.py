"""The REST API: the vendor's paths, fields and status codes over the core; `app.make_app` puts it together."""
