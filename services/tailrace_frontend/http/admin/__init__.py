"""The routes of those who run Tailrace, under `/v1/admin`: one module each, all in `routers`."""
