"""How well scores tell a few rows from many."""

from collections.abc import Collection, Sequence


def precision_at_k(scores: Sequence[float], wanted: Collection[int]) -> float:
    """Share of wanted rows among the highest scores, as many as are wanted; ties by place."""
    order = sorted(range(len(scores)), key=lambda place: -scores[place])
    return sum(place in wanted for place in order[: len(wanted)]) / len(wanted)


def area_under_curve(scores: Sequence[float], wanted: Collection[int]) -> float:
    """How likely a wanted row scores higher than another one; a tie counts half."""
    high = [score for place, score in enumerate(scores) if place in wanted]
    low = [score for place, score in enumerate(scores) if place not in wanted]
    won = sum((one > other) + (one == other) / 2 for one in high for other in low)
    return won / (len(high) * len(low))
