"""docs/aws.md says until when the price table of this version is taken."""

from __future__ import annotations

from datetime import timedelta

from fruits.costs import read_prices
from fruits.settings import Settings
from tests.docs.pages import ROOT


def test_the_price_tables_dates_are_those_of_the_table() -> None:
    """Whoever deploys knows from which day on a cluster would be refused."""
    made = read_prices("eu-west-3").as_of
    # Not what make sets for this machine.
    allowed = Settings.model_fields["prices_max_age_days"].default
    refused = made + timedelta(days=allowed + 1)

    text = " ".join((ROOT / "docs" / "aws.md").read_text().split())

    assert f"is of {made:%-d %B %Y} and refused from {refused:%-d %B %Y} on" in text
