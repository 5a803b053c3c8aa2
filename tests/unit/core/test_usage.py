"""Totals of usage: prices are looked up late, but each request is priced once."""

from mcpchat.core.messages import Usage
from mcpchat.core.usage import UsageTotals


def test_many_requests_are_priced_before_the_cost_is_read() -> None:
    priced: list[int] = []

    def price(usage: Usage) -> float:
        priced.append(usage.input)
        return 0.5

    run = UsageTotals()
    thread = UsageTotals(run)
    for number in range(101):
        thread.add(Usage(input=number, output=1), price)
    assert priced == [*range(101), *range(101)]  # for the thread and for the run
    assert (thread.cost, run.cost) == (50.5, 50.5)
    assert len(priced) == 202
    assert thread.usage == run.usage == Usage(input=5050, output=101)


def test_a_request_without_a_price_makes_the_cost_unknown() -> None:
    totals = UsageTotals()
    totals.add(Usage(input=1), lambda usage: 0.25)
    assert totals.cost == 0.25
    totals.add(Usage(input=1), None)
    totals.add(Usage(input=1), lambda usage: None)
    assert (totals.cost, totals.dollars, totals.unpriced_requests) == (None, 0.25, 2)
