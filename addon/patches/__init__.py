"""Process-wide changes of mitmproxy: fixes of its bugs, and shortcuts in its hot paths."""
