"""Tables, one module per subject. Every module here is imported, so that METADATA is whole."""

import importlib
import pkgutil
from typing import Final

from sqlalchemy import MetaData
from sqlmodel import SQLModel

for _module in pkgutil.iter_modules(__path__):
    importlib.import_module(f"{__name__}.{_module.name}")

METADATA: Final[MetaData] = SQLModel.metadata
