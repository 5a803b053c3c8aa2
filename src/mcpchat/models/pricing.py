"""Prices and context windows of well-known models, from the data in the genai-prices package. No network access."""

from mcpchat.config.schema import PriceConfig
from mcpchat.core.messages import Usage

_MILLION = 1_000_000


def configured_cost(usage: Usage, price: PriceConfig) -> float:
    """The cost of one request in US dollars, by the price in the config."""
    cached_price = price.input if price.cached is None else price.cached
    uncached = max(0, usage.input - usage.cached)
    return (uncached * price.input + usage.cached * cached_price + usage.output * price.output) / _MILLION


def known_cost(usage: Usage, *, model: str, base_url: str) -> float | None:
    """The cost of one request in US dollars, or None if the data has no such model at this address."""
    import genai_prices  # a megabyte of data, needed only if costs are tracked

    priced_usage = genai_prices.Usage(
        input_tokens=usage.input,
        output_tokens=usage.output,
        cache_read_tokens=usage.cached,
        cache_write_tokens=usage.written,
    )
    try:
        calculation = genai_prices.calc_price(priced_usage, model_ref=model, provider_api_url=base_url)
    except (LookupError, ValueError):
        return None
    return float(calculation.total_price)


def known_window(*, model: str, base_url: str, any_provider: bool) -> int | None:
    """The model's context window in tokens, or None if the data has no such model.

    It is looked up at this address, then, with ``any_provider``, by the same name at any provider.
    """
    from genai_prices import data_snapshot

    snapshot = data_snapshot.get_snapshot()
    for address in (base_url, None) if any_provider else (base_url,):
        try:
            _, model_info = snapshot.find_provider_model(model, None, None, address)
        except LookupError:
            continue
        if model_info.context_window:
            return int(model_info.context_window)
    return None
