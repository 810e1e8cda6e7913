import torch

from igcv3det.structures import Target
from igcv3det.tasks.detect.batches import collate, pack


def sample(image_id, objects, crowds, *, has_scores=False):
    boxes = torch.rand(objects + crowds, 4)
    target = Target(
        boxes=boxes[:objects],
        labels=torch.arange(1, objects + 1),
        crowds=boxes[objects:],
        image_id=image_id,
        original_size=(image_id, 2 * image_id),
        scores=torch.rand(objects) if has_scores else None,
    )
    return torch.full((3, 4, 4), float(image_id)), target


def test_every_target_comes_back():
    samples = [sample(5, 2, 1), sample(2**40, 0, 0), sample(7, 0, 2), sample(8, 3, 0)]
    samples += [sample(9, 2, 0, has_scores=True), sample(10, 0, 1, has_scores=True)]
    images, targets = collate(samples)
    assert images.shape == (6, 3, 4, 4)
    assert isinstance(targets, list)
    for (image, target), found, batched in zip(samples, targets, images, strict=True):
        torch.testing.assert_close(batched, image, rtol=0, atol=0)
        for ours, theirs in zip(found, target, strict=True):
            if isinstance(theirs, torch.Tensor):
                torch.testing.assert_close(ours, theirs, rtol=0, atol=0)
            else:
                assert ours == theirs
                assert type(ours) is type(theirs)


def test_a_batch_without_any_object():
    images, (target,) = collate([sample(1, 0, 0)])
    assert images.shape == (1, 3, 4, 4)
    assert target.boxes.shape == target.crowds.shape == (0, 4)
    assert target.labels.dtype == torch.int64


def test_a_batch_travels_as_six_tensors():
    packed = pack([sample(i, i, 1) for i in range(1, 9)])
    assert len(packed) == 6
    assert all(isinstance(part, torch.Tensor) for part in packed)
