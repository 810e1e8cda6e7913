"""The networks of `models`, rewritten to compute the same function faster."""
