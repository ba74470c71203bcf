"""What calls cost, by the package genai-prices, at the moment at which they are made.

A price that nobody knows stays unknown. Nothing here is imported before the first call is recorded.
"""

from __future__ import annotations

import logging
from functools import cache
from typing import Any

import msgspec

from perdure.core.usage import Used, nanos

logger = logging.getLogger("perdure.ledger")


def priced(used: Used) -> Used:
    """The same call with its price, if there is one; and with the provider's name, if only the price list knows it."""
    if used.cost is not None or used.model is None:
        return used
    prices = _prices()
    if prices is None:
        return used
    usage = prices.Usage(
        input_tokens=used.input,
        cache_read_tokens=used.cached,
        cache_write_tokens=used.written,
        output_tokens=used.output,
    )
    for provider in dict.fromkeys(
        (used.provider, None)
    ):  # a client may speak to other providers than its maker
        try:
            found = prices.calc_price(usage, used.model, provider_id=provider)
        except LookupError:
            continue
        except Exception as error:  # noqa: BLE001 - a price list mustn't make a step fail
            logger.warning("couldn't tell the price of a call of %s: %s", used.model, error)
            break
        return msgspec.structs.replace(
            used,
            cost=nanos(found.total_price),
            price=f"genai-prices {prices.__version__}",
            provider=used.provider or found.provider.id,
        )
    return used


@cache
def _prices() -> Any:
    try:
        import genai_prices
    except ImportError:
        logger.warning(
            "calls of language models are recorded without their price, since genai-prices isn't installed: "
            "pip install 'perdure[ai]'"
        )
        return None
    return genai_prices
