"""Networks: images in, features and raw head outputs out; no boxes."""
