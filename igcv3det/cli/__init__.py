"""Commands: each file parses one command line before it imports torch."""
