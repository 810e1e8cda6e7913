"""Between the predictor and files: pictures and videos in, drawings and records out."""
