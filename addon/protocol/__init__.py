"""The wire formats of the API, read without mitmproxy: endpoints, JSON, event streams, content codings, usage."""
