"""Settings of a classification run of a second, on synthetic shapes."""

CLASSIFIER = {
    "num_classes": 6,
    "image_size": 16,
    "strides": [2, 1, 1, 2, 1, 1, 1, 1],
    "backbone": {"width": 0.125, "repeats": [1, 1, 1, 1, 1, 1, 1]},
}
SETTINGS = {
    "model": {
        "classifier": CLASSIFIER,
        "optim": {"lr": 0.05, "lr_batch_size": None, "warmup_steps": 2, "ema_decay": None},
    },
    "data": {"source": "shapes", "drawn": [24, 12], "batch_size": 8, "augment": {"pad": 1}},
    "trainer": {
        "accelerator": "cpu",
        "max_epochs": 2,
        "log_every_n_steps": 1,
        "enable_progress_bar": False,
        "num_sanity_val_steps": 0,
    },
}
