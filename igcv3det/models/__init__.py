"""Networks: images in, features and raw predictions out; nothing here knows what a box is."""
