"""Family operations: `/health`, `/ready`, `/metrics`, `/openapi.json`. Without authentication and limits."""
