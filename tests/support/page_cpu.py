"""The CPU time of a page's main thread: what the page itself does, however busy the machine is."""

from playwright.async_api import Page


class PageCpu:
    """The CPU time of a page since `begin`."""

    def __init__(self, page: Page) -> None:
        self._page = page
        self._began = 0.0

    async def begin(self) -> None:
        self._session = await self._page.context.new_cdp_session(self._page)
        await self._session.send("Performance.enable", {"timeDomain": "threadTicks"})
        self._began = await self._total_ms()

    async def spent_ms(self) -> float:
        return await self._total_ms() - self._began

    async def _total_ms(self) -> float:
        metrics = (await self._session.send("Performance.getMetrics"))["metrics"]
        return 1000 * next(float(each["value"]) for each in metrics if each["name"] == "TaskDuration")
