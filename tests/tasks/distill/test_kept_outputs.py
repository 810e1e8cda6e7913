"""What is computed once for fixed crops, and that training does not notice."""

import errno
import logging
import shutil
from contextlib import ExitStack, closing
from dataclasses import replace

import pytest
import torch
from distillation_networks import built, small_config
from distillation_runs import WHOLE, module, write_inputs
from distributed_runs import make_trainer

from igcv3det.checkpoint import load_detector, save_detector
from igcv3det.tasks.distill.config import DistillationConfig
from igcv3det.tasks.distill.datamodule import DistillationDataModule
from igcv3det.tasks.distill.kept_outputs import KeptOutputs, fingerprint
from igcv3det.tasks.distill.module import DistillationModule
from igcv3det.tasks.distill.teacher import Teacher


def _values(crops):
    numbers = torch.tensor(crops, dtype=torch.float32)
    return {"a": numbers.reshape(-1, 1, 1) + torch.zeros(1, 2, 3), "b": numbers[:, None] / 4}


@pytest.fixture
def opened():
    """Opens a folder of outputs "a" and "b", which is closed after the test."""
    with ExitStack() as stack:
        yield lambda folder, count: stack.enter_context(closing(KeptOutputs(folder, count, "ab")))


def test_values_come_back_when_they_are_on_the_disk(opened, tmp_path):
    kept = opened(tmp_path / "kept", 5)
    assert not kept.has([1])
    kept.write([3, 1], _values([3, 1]))
    kept.write([4], {name: value * 1e9 for name, value in _values([4]).items()})
    assert not kept.has([1])
    kept.flush()
    assert kept.has([1, 3])
    assert not kept.has([1, 2])
    kept.close()

    again = opened(tmp_path / "kept", 5)
    assert [again.has([crop]) for crop in range(5)] == [False, True, False, True, True]
    found = again.read([1, 3])
    assert {name: value.dtype for name, value in found.items()} == dict.fromkeys(
        "ab", torch.float32
    )
    assert all(torch.equal(found[name], value) for name, value in _values([1, 3]).items())
    assert torch.isfinite(again.read([4])["a"]).all()  # float16 ends at 65504
    again.write([0], _values([0]))
    again.close()
    assert opened(tmp_path / "kept", 5).has([0, 1])


def test_two_processes_keep_in_one_folder(opened, tmp_path):
    one, other = (opened(tmp_path / "kept", 4) for _ in range(2))
    one.write([0, 1], _values([0, 1]))
    other.write([2, 3], _values([2, 3]))
    one.close()
    other.close()
    both = opened(tmp_path / "kept", 4)
    assert both.has([0, 1, 2, 3])
    assert torch.equal(both.read([1, 2])["a"], _values([1, 2])["a"])


@pytest.mark.parametrize("deleted", ["done", "a.npy", "all", "made anew"])
def test_a_run_whose_files_are_deleted_goes_on_without_them(opened, tmp_path, caplog, deleted):
    folder = tmp_path / "kept"
    kept = opened(folder, 4)
    kept.write([0], _values([0]))
    kept.flush()
    kept.write([1], _values([1]))
    if deleted in ("done", "a.npy"):
        (folder / deleted).unlink()
    else:
        shutil.rmtree(folder)
    if deleted == "made anew":
        other = opened(folder, 4)
        other.write([3], _values([3]))
        other.close()
    kept.flush()
    kept.write([2], _values([2]))
    kept.close()
    assert caplog.text.count("files were deleted: this run keeps no more outputs") == 1
    assert kept.has([0])
    assert not kept.has([1])
    assert not kept.has([2])

    again = opened(folder, 4)
    assert [again.has([n]) for n in range(4)] == [False] * 3 + [deleted == "made anew"]
    again.write([2], _values([2]))
    again.close()
    found = opened(folder, 4).read([2])
    assert all(torch.equal(found[name], value) for name, value in _values([2]).items())


@pytest.mark.parametrize("missing", ["a.npy", "b.npy", "done"])
def test_a_folder_of_which_a_part_is_missing_is_written_anew(opened, tmp_path, missing):
    kept = opened(tmp_path / "kept", 3)
    kept.write([0, 1], _values([0, 1]))
    kept.close()
    (tmp_path / "kept" / missing).unlink()
    kept = opened(tmp_path / "kept", 3)
    assert not kept.has([0])
    kept.write([1], _values([1]))
    kept.close()
    again = opened(tmp_path / "kept", 3)
    assert [again.has([n]) for n in range(3)] == [False, True, False]
    assert all(torch.equal(again.read([1])[name], value) for name, value in _values([1]).items())


def test_a_full_disk_is_named_and_leaves_nothing(tmp_path, monkeypatch):
    def full(file, start, size):
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr("os.posix_fallocate", full, raising=False)
    message = r"data\.crops_per_image: 0\.0 GB are needed: .*a\.npy: the disk is full"
    with pytest.raises(OSError, match=message):
        KeptOutputs(tmp_path / "kept", 5, "ab").write([0], _values([0]))
    assert {path.name for path in (tmp_path / "kept").iterdir()} <= {"lock"}


def test_other_weights_and_descriptions_have_other_names():
    detectors = [built(small_config(), seed) for seed in (0, 0, 1)]
    names = [fingerprint({"teacher": detector}, "x") for detector in detectors]
    assert names[0] == names[1] != names[2]
    assert fingerprint({"teacher": detectors[0]}, "y") != names[0]


def _data(folder, crops_per_image):
    return DistillationDataModule(
        [str(folder / "images")],
        side=WHOLE.size,
        cache=str(folder / "cache"),
        batch_size=2,
        held_out=4,
        crop=WHOLE,
        crops_per_image=crops_per_image,
    )


def _name_of_kept(folder, teacher, student):
    data = _data(folder, 1)
    data.setup("fit")
    torch.manual_seed(0)
    frozen = DistillationConfig(frozen=("stem", "stage1"))
    built_module = DistillationModule(str(teacher), detector=student, distillation=frozen)
    built_module.expected.keep(data, torch.device("cpu"), "32-true")
    return built_module.expected._kept.folder.name


def test_outputs_are_those_of_networks_that_compute_the_same(tmp_path):
    """Not only of the same weights."""
    write_inputs(tmp_path, images=8)
    path, config = tmp_path / "teacher.safetensors", small_config()
    weights = load_detector(path).state_dict()
    others = [
        replace(config, padding="symmetric"),
        replace(config, head=replace(config.head, norm_eps=0.5)),
        small_config(norm_eps=0.5),
        small_config(relu="both"),
    ]
    names = [_name_of_kept(tmp_path, path, config) for _ in range(2)]
    assert names[0] == names[1]
    for number, other in enumerate(others):
        names.append(_name_of_kept(tmp_path, path, other))
        teacher = built(other, 0)
        teacher.load_state_dict(weights)
        save_detector(teacher, tmp_path / f"{number}.safetensors")
        names.append(_name_of_kept(tmp_path, tmp_path / f"{number}.safetensors", config))
    assert len(set(names[1:])) == 1 + 2 * len(others)


def _train(folder, calls, crops_per_image, epochs=3, **options):
    calls.clear()
    data, losses = _data(folder, crops_per_image), []
    frozen = DistillationConfig(frozen=("stem", "stage1"), batch_statistics_steps=0)
    student = module(folder, frozen)
    student.on_train_batch_end = lambda *_: losses.append(dict(student.losses))
    trainer = make_trainer(folder, 1, max_epochs=epochs, limit_val_batches=0, **options)
    trainer.fit(student, datamodule=data)
    return losses, len(calls)


def test_a_training_computes_each_crop_once_and_learns_the_same(tmp_path, monkeypatch, caplog):
    write_inputs(tmp_path, images=8)
    calls, call = [], Teacher.__call__

    def counted(self, images):
        calls.append(len(images))
        return call(self, images)

    monkeypatch.setattr(Teacher, "__call__", counted)
    expected, computed = _train(tmp_path, calls, 0)  # these crops are the whole images
    assert computed == 6
    with caplog.at_level(logging.INFO):
        found, computed = _train(tmp_path, calls, 1)
    assert computed == 2
    assert "outputs of 8 crops are kept in" in caplog.text
    again, computed = _train(tmp_path, calls, 1)
    assert computed == 0
    for losses in (found, again):
        for own, other in zip(losses, expected, strict=True):
            assert own.keys() == other.keys()
            for name, loss in own.items():
                # float16: random weights have large features
                assert float(loss) == pytest.approx(float(other[name]), rel=1e-2)
    _, computed = _train(tmp_path, calls, 1, precision="bf16-mixed")
    assert computed == 2  # in this precision the teacher has other outputs
    _train(tmp_path, calls, 2)
    assert len(calls) == 4  # the third epoch has the crops of the first


@pytest.mark.parametrize(
    ("name", "content"),
    [
        *((f"{name}.npy", content) for name in "ab" for content in (b"", b"\x93NUMPY\1\0v")),
        ("a.npy", b"garbage" * 100),
        ("a.npy", None),  # cut to half
        ("done", b"\1"),
    ],
)
def test_damaged_files_are_written_anew(opened, tmp_path, name, content):
    kept = opened(tmp_path / "kept", 3)
    kept.write([0, 1], _values([0, 1]))
    kept.close()
    file = tmp_path / "kept" / name
    whole = file.read_bytes()
    file.write_bytes(whole[: len(whole) // 2] if content is None else content)
    kept = opened(tmp_path / "kept", 3)
    assert not kept.has([0])
    kept.write([1], _values([1]))
    kept.close()
    assert all(
        torch.equal(opened(tmp_path / "kept", 3).read([1])[key], value)
        for key, value in _values([1]).items()
    )
