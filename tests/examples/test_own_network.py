"""The example on digits learns, and goes on where it was stopped."""

from __future__ import annotations

from examples import own_network


def test_it_learns_digits_that_it_never_saw(tmp_path):
    results = own_network.main(str(tmp_path / "run"), iterations=60)
    assert results["accuracy"] > 0.8
    again = own_network.main(str(tmp_path / "run"), iterations=60)
    assert again["accuracies"] == results["accuracies"]
