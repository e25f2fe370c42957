import torch

from defense.ops.draws import isolated_draws

CPU = torch.device("cpu")


def test_the_same_seed_gives_the_same_draws() -> None:
    with isolated_draws(3, CPU):
        first = torch.rand(4)
    torch.rand(1)
    with isolated_draws(3, CPU):
        second = torch.rand(4)

    assert torch.equal(first, second)


def test_the_stream_outside_does_not_notice() -> None:
    torch.manual_seed(0)
    expected = torch.rand(2)
    torch.manual_seed(0)
    with isolated_draws(3, CPU):
        torch.rand(100)

    assert torch.equal(torch.rand(2), expected)
