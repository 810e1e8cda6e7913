"""The commands: one file each, which parses its command line before it imports torch."""
