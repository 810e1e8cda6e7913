"""A detector and data that train in milliseconds; nothing on disk but the annotations."""

import json

import torch
from pytorch_lightning import LightningDataModule, Trainer
from torch.utils.data import DataLoader

from igcv3det.config import BackboneConfig, DetectorConfig, HeadConfig, OptimConfig
from igcv3det.datasets.coco import read_coco
from igcv3det.structures import Categories, Target
from igcv3det.tasks.detect.module import DetectionModule

SIZE = 64
CATEGORIES = Categories((1, 7), ("cat", "dog"))
DETECTOR = DetectorConfig(
    num_classes=2,
    image_size=SIZE,
    backbone=BackboneConfig(name="mobilenetv2", width=0.1),
    head=HeadConfig(extra_channels=(16, 16)),
)
OPTIM = OptimConfig(lr=0.01, lr_batch_size=None, warmup_steps=2, ema_decay=0.9)


def collate(samples):
    return torch.stack([image for image, _ in samples]), [target for _, target in samples]


class TinyData(LightningDataModule):
    """Eight images of noise with one box each; image ids from 100."""

    def __init__(self, folder, batch_size=2, corrupt=None):
        super().__init__()
        self.batch_size = batch_size
        generator = torch.Generator().manual_seed(0)
        box = torch.tensor([[8.0, 8.0, 40.0, 40.0]])
        self.samples = [
            (
                torch.randn(3, SIZE, SIZE, generator=generator),
                Target(box, torch.tensor([1 + i % 2]), torch.zeros(0, 4), 100 + i, (SIZE, SIZE)),
            )
            for i in range(8)
        ]
        if corrupt is not None:
            self.samples[corrupt][0].fill_(float("nan"))
        images = [
            {"id": target.image_id, "file_name": "x.png", "width": SIZE, "height": SIZE}
            for _, target in self.samples
        ]
        annotations = [
            {
                "id": i + 1,
                "image_id": target.image_id,
                "category_id": CATEGORIES.ids[i % 2],
                "bbox": [8, 8, 32, 32],
                "area": 1024,
                "iscrowd": 0,
            }
            for i, (_, target) in enumerate(self.samples)
        ]
        categories = [
            {"id": i, "name": n} for i, n in zip(CATEGORIES.ids, CATEGORIES.names, strict=True)
        ]
        path = folder / "annotations.json"
        content = {"images": images, "annotations": annotations, "categories": categories}
        path.write_text(json.dumps(content))
        self.val_record = read_coco(path)

    def train_dataloader(self):
        return DataLoader(self.samples, self.batch_size, collate_fn=collate)

    def val_dataloader(self):
        return self.train_dataloader()


def module(kind=DetectionModule, **changes):
    torch.manual_seed(0)
    given = {"detector": DETECTOR, "optim": OPTIM, "categories": CATEGORIES}
    return kind(**(given | changes))


def trainer(folder, callbacks=(), **options):
    given = {
        "accelerator": "cpu",
        "max_epochs": 1,
        "logger": False,
        "callbacks": list(callbacks),
        "enable_progress_bar": False,
        "enable_model_summary": False,
        "num_sanity_val_steps": 0,
        "default_root_dir": folder,
    }
    if not any("Checkpoint" in type(own).__name__ for own in callbacks):
        given["enable_checkpointing"] = False
    return Trainer(**(given | options))
