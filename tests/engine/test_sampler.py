import pytest

from igcv3det.engine.sampler import EpochBatches


def keys(epoch=0, first=0, **options):
    batches = EpochBatches(**options)
    batches.epoch, batches.first = epoch, first
    return list(batches)


def indices(batches):
    return [index for batch in batches for _, index in batch]


def test_shuffled_batches_are_full_and_without_repeats():
    batches = keys(length=23, batch_size=4, shuffle=True)
    assert [len(batch) for batch in batches] == [4] * 5
    assert len(set(indices(batches))) == 20
    assert set(indices(batches)) <= set(range(23))


def test_order_depends_on_seed_and_epoch_alone():
    options = {"length": 23, "batch_size": 4, "shuffle": True}
    assert keys(epoch=3, **options) == keys(epoch=3, **options)
    orders = {
        tuple(indices(keys(epoch=epoch, seed=seed, **options)))
        for epoch in range(3)
        for seed in range(3)
    }
    assert len(orders) == 9


def test_every_image_comes_over_the_epochs():
    seen = {
        index
        for epoch in range(20)
        for index in indices(keys(epoch=epoch, length=23, batch_size=4, shuffle=True))
    }
    assert seen == set(range(23))


@pytest.mark.parametrize("first", [0, 1, 4, 5])
def test_starting_later_gives_the_rest(first):
    options = {"length": 23, "batch_size": 4, "shuffle": True}
    assert keys(epoch=2, first=first, **options) == keys(epoch=2, **options)[first:]


def test_keys_carry_the_epoch():
    assert {epoch for batch in keys(epoch=7, length=5, batch_size=2) for epoch, _ in batch} == {7}


def test_processes_share_an_epoch_of_training():
    parts = [
        keys(length=23, batch_size=3, shuffle=True, rank=rank, world_size=2) for rank in range(2)
    ]
    assert [len(part) for part in parts] == [3, 3]
    together = indices(parts[0]) + indices(parts[1])
    assert len(set(together)) == 18
    # step for step they see what one process with both batches would see
    alone = keys(length=23, batch_size=6, shuffle=True)
    for step in range(3):
        assert set(parts[0][step]) | set(parts[1][step]) == set(alone[step])


@pytest.mark.parametrize("length", [2, 3, 7, 8])
def test_processes_share_validation_without_padding(length):
    parts = [keys(length=length, batch_size=3, rank=rank, world_size=2) for rank in range(2)]
    assert sorted(indices(parts[0]) + indices(parts[1])) == list(range(length))
    for rank, part in enumerate(parts):
        assert len(part) == len(EpochBatches(length, 3, rank=rank, world_size=2))


def test_each_process_has_an_image_where_they_are_fewer_than_processes():
    parts = [keys(length=1, batch_size=3, rank=rank, world_size=2) for rank in range(2)]
    assert [indices(part) for part in parts] == [[0], [0]]
    assert len(EpochBatches(1, 3, rank=1, world_size=2)) == 1


def test_too_few_images_are_refused():
    with pytest.raises(ValueError, match=r"lower data\.batch_size"):
        EpochBatches(7, 4, shuffle=True, world_size=2)
