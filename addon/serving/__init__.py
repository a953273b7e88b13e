"""The process: start and stop, the listening port, mitmproxy's own files, and its log."""
