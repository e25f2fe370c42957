import torch

from defense.ops.steepness import ascent_probe, steepness_gradient


def test_the_probe_has_the_radius_and_points_up_the_harmful_loss() -> None:
    probe = ascent_probe({"a": torch.tensor([3.0]), "b": torch.tensor([4.0])}, radius=0.5)

    assert probe["a"].tolist() == [0.30000001192092896]
    assert torch.allclose(probe["b"], torch.tensor([0.4]))


def test_a_flat_loss_gives_no_probe() -> None:
    assert ascent_probe({"a": torch.zeros(2)}, radius=1.0)["a"].tolist() == [0, 0]


def test_the_term_descends_what_the_paper_ascends() -> None:
    at_weights, at_probe = {"a": torch.tensor([1.0])}, {"a": torch.tensor([3.0])}

    term = steepness_gradient(at_weights, at_probe, weight=0.5)

    assert term["a"].tolist() == [0.5 * (1.0 - 3.0)]
