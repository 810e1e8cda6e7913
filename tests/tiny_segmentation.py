"""Settings of a segmentation run of a second."""

SEGMENTER = {
    "image_size": [32, 48],
    "head_channels": 8,
    "backbone": {"width": 0.125, "repeats": [1, 1, 1, 1, 1, 1, 1]},
}
SETTINGS = {
    "model": {
        "segmenter": SEGMENTER,
        "optim": {"lr": 0.05, "lr_batch_size": None, "warmup_steps": 1, "ema_decay": 0.5},
    },
    "data": {"batch_size": 3, "num_workers": 0, "ignore": [9]},
    "trainer": {
        "accelerator": "cpu",
        "max_epochs": 2,
        "log_every_n_steps": 1,
        "enable_progress_bar": False,
        "num_sanity_val_steps": 0,
    },
}
