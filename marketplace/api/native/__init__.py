"""Family native: `/v1/…`. One module per subject; each offers `…_routes(services) -> list[Route]`."""
