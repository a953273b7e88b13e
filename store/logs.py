import logging


def configure(level, fmt):
    logging.basicConfig(level=level, force=False)
