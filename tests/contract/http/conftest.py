"""A product for each module."""

from collections.abc import AsyncIterator

import pytest_asyncio

from support.product import Product, running_product, wait_for_final_404


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def product() -> AsyncIterator[Product]:
    async with running_product() as product:
        await wait_for_final_404(product)
        yield product
