"""What runs inside the images of our models, and nothing else: no module of the market or the node is imported here.

A folder per model: `model.toml` (its entry), `requirements.txt` (its wheels, by hash), `__main__.py` and its modules.
The contract with the market is `marketplace/runners/contract.py`; `scripts/models` makes the images. docs/models.md.
"""
