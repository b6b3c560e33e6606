"""Processes of our own for what would hold the event loop: loading a configuration, judging the bodies of strangers.

Each runs ``python -m watchbill.workers NAME`` at low priority and talks over its standard input and output alone,
so that a secret is in no argument, file or environment of another. It ends when its input does.
"""
