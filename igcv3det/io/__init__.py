"""Images and videos from files; drawings and records to files."""
