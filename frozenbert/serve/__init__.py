"""The web service: app, request limits, queue, process, page."""
