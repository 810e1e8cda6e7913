"""Between the predictor and files: images and videos in, drawings and records out."""
