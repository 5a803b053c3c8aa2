"""Prices and windows of well-known models, from the data that genai-prices ships; nothing is fetched."""

from mcpchat.config.schema import PriceConfig
from mcpchat.core.messages import Usage

_MILLION = 1_000_000


def configured(usage: Usage, price: PriceConfig) -> float:
    """US dollars of one request, by the config's own price."""
    cached_price = price.input if price.cached is None else price.cached
    fresh = max(0, usage.input - usage.cached)
    return (fresh * price.input + usage.cached * cached_price + usage.output * price.output) / _MILLION


def known(usage: Usage, *, model: str, base_url: str) -> float | None:
    """US dollars of one request at this address, None where its provider or model is not known there."""
    import genai_prices  # a megabyte of data, which only who asks for money needs

    counted = genai_prices.Usage(
        input_tokens=usage.input,
        output_tokens=usage.output,
        cache_read_tokens=usage.cached,
        cache_write_tokens=usage.written,
    )
    try:
        found = genai_prices.calc_price(counted, model_ref=model, provider_api_url=base_url)
    except (LookupError, ValueError):
        return None
    return float(found.total_price)


def window(*, model: str, base_url: str, elsewhere: bool) -> int | None:
    """How many tokens the model takes by the data: at this address, or else ``elsewhere`` under the same name."""
    from genai_prices import data_snapshot

    snapshot = data_snapshot.get_snapshot()
    for address in (base_url, None) if elsewhere else (base_url,):
        try:
            _, found = snapshot.find_provider_model(model, None, None, address)
        except LookupError:
            continue
        if found.context_window:
            return int(found.context_window)
    return None
