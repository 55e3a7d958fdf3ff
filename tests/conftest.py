"""The order of the tests."""


def pytest_collection_modifyitems(items: list) -> None:
    """Browser tests last: Playwright leaves an event loop running in this thread, where no other can start."""
    items.sort(key=lambda item: "e2e" in item.path.parts)
